//! The simulated device and the names on it: directories with what is seen and what is durable, and the files.
//!
//! A change of names is one atomic operation (a rename is one, even between directories). Until one of its directories is
//! synced it may or may not survive a crash. Operations on the same name or the same file keep their order: one survives
//! only together with those before it, otherwise a file could end up under two names. Cloning is cheap: everything large
//! is shared until it changes. Knows no time and no handles.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path};
use std::rc::Rc;

use super::Survival;
use super::content::Content;
use super::file::FileState;
use super::random::Random;
use crate::disk::{BLOCK_BYTES, DirEntry};

pub(super) type Id = u64;

const ROOT: Id = 0;

#[derive(Clone, Debug, Default)]
struct Directory {
    live: BTreeMap<String, Id>,
    durable: BTreeMap<String, Id>,
}

/// One atomic change of names: each named place gets a file or directory, or nothing.
#[derive(Clone, Debug)]
struct NameChange {
    number: u64,
    subject: Id,
    places: Vec<(Id, String, Option<Id>)>,
}

impl NameChange {
    fn must_follow(&self, earlier: &Self) -> bool {
        let same_place = |(dir, name, _): &(Id, String, Option<Id>)| {
            earlier.places.iter().any(|(other_dir, other_name, _)| dir == other_dir && name == other_name)
        };
        self.subject == earlier.subject || self.places.iter().any(same_place)
    }
}

#[derive(Clone, Debug)]
pub(super) struct World {
    directories: BTreeMap<Id, Rc<Directory>>,
    files: BTreeMap<Id, Rc<FileState>>,
    /// Changes that no directory sync has covered, oldest first.
    changes: Vec<NameChange>,
    next_id: Id,
    capacity_bytes: u64,
    used_blocks: u64,
}

impl World {
    pub(super) fn new(capacity_bytes: u64) -> Self {
        Self {
            directories: BTreeMap::from([(ROOT, Rc::default())]),
            files: BTreeMap::new(),
            changes: Vec::new(),
            next_id: ROOT + 1,
            capacity_bytes,
            used_blocks: 0,
        }
    }

    pub(super) fn file(&mut self, id: Id) -> &mut FileState {
        Rc::make_mut(self.files.get_mut(&id).expect("a file lives as long as its handles"))
    }

    pub(super) fn live(&self, id: Id) -> &Content {
        self.files.get(&id).expect("a file lives as long as its handles").live()
    }

    pub(super) fn set_capacity(&mut self, capacity_bytes: u64) {
        self.capacity_bytes = capacity_bytes;
    }

    pub(super) fn capacity_bytes(&self) -> u64 {
        self.capacity_bytes
    }

    pub(super) fn free_bytes(&self) -> u64 {
        self.capacity_bytes.saturating_sub(self.used_blocks * BLOCK_BYTES as u64)
    }

    /// Takes space for blocks that are about to be allocated.
    pub(super) fn charge(&mut self, blocks: u64) -> io::Result<()> {
        if self.free_bytes() / (BLOCK_BYTES as u64) < blocks {
            return Err(errno(libc::ENOSPC));
        }
        self.used_blocks += blocks;
        Ok(())
    }

    pub(super) fn refund(&mut self, blocks: u64) {
        self.used_blocks = self.used_blocks.saturating_sub(blocks);
    }

    pub(super) fn find_file(&self, path: &Path) -> io::Result<Id> {
        match self.find(path)? {
            id if self.directories.contains_key(&id) => Err(errno(libc::EISDIR)),
            id => Ok(id),
        }
    }

    pub(super) fn create_file(&mut self, path: &Path) -> io::Result<Id> {
        let (dir, name) = self.place(path)?;
        if self.directories[&dir].live.contains_key(name) {
            return Err(errno(libc::EEXIST));
        }
        let id = self.take_id();
        self.files.insert(id, Rc::default());
        self.change(id, vec![(dir, name.to_owned(), Some(id))]);
        Ok(id)
    }

    pub(super) fn create_dir_all(&mut self, path: &Path) -> io::Result<()> {
        let mut dir = ROOT;
        for name in components(path)? {
            dir = match self.directories[&dir].live.get(name) {
                Some(&id) if self.directories.contains_key(&id) => id,
                Some(_) => return Err(errno(libc::ENOTDIR)),
                None => {
                    let id = self.take_id();
                    self.directories.insert(id, Rc::default());
                    self.change(id, vec![(dir, name.to_owned(), Some(id))]);
                    id
                }
            };
        }
        Ok(())
    }

    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let dir = &self.directories[&self.find_dir(path)?];
        let entry =
            |(name, id): (&String, &Id)| DirEntry { name: name.clone(), is_dir: self.directories.contains_key(id) };
        Ok(dir.live.iter().map(entry).collect())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let (from_dir, from_name) = self.place(from)?;
        let (to_dir, to_name) = self.place(to)?;
        let id = *self.directories[&from_dir].live.get(from_name).ok_or_else(|| errno(libc::ENOENT))?;
        if to.components().count() > from.components().count() && to.starts_with(from) {
            return Err(errno(libc::EINVAL));
        }
        if let Some(&target) = self.directories[&to_dir].live.get(to_name) {
            if target == id {
                return Ok(());
            }
            match (self.directories.contains_key(&id), self.directories.get(&target)) {
                (true, None) => return Err(errno(libc::ENOTDIR)),
                (false, Some(_)) => return Err(errno(libc::EISDIR)),
                (true, Some(dir)) if !dir.live.is_empty() => return Err(errno(libc::ENOTEMPTY)),
                (true, Some(_)) => {}
                (false, None) => self.refund(self.live(target).allocated_blocks()),
            }
        }
        let places = vec![(from_dir, from_name.to_owned(), None), (to_dir, to_name.to_owned(), Some(id))];
        self.change(id, places);
        Ok(())
    }

    pub(super) fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        let id = self.find_file(path)?;
        let (dir, name) = self.place(path)?;
        self.refund(self.live(id).allocated_blocks());
        self.change(id, vec![(dir, name.to_owned(), None)]);
        Ok(())
    }

    pub(super) fn remove_dir(&mut self, path: &Path) -> io::Result<()> {
        let id = self.find_dir(path)?;
        if !self.directories[&id].live.is_empty() {
            return Err(errno(libc::ENOTEMPTY));
        }
        let (dir, name) = self.place(path)?;
        self.change(id, vec![(dir, name.to_owned(), None)]);
        Ok(())
    }

    pub(super) fn find_dir(&self, path: &Path) -> io::Result<Id> {
        match self.find(path)? {
            id if self.directories.contains_key(&id) => Ok(id),
            _ => Err(errno(libc::ENOTDIR)),
        }
    }

    /// What a sync of a directory that starts now covers.
    pub(super) fn names_mark(&self) -> u64 {
        self.next_id
    }

    /// A directory sync returned: the changes in it before `mark`, and those they depend on, are durable.
    pub(super) fn names_synced(&mut self, dir: Id, mark: u64) {
        let covered = |change: &NameChange| {
            change.number < mark && change.places.iter().any(|(place_dir, _, _)| *place_dir == dir)
        };
        let kept = with_predecessors(&self.changes, covered);
        let (durable, open) = std::mem::take(&mut self.changes)
            .into_iter()
            .partition::<Vec<_>, _>(|change| kept.contains(&change.number));
        self.changes = open;
        for (dir, name, id) in durable.into_iter().flat_map(|change| change.places) {
            if let Some(directory) = self.directories.get_mut(&dir) {
                set(&mut Rc::make_mut(directory).durable, name, id);
            }
        }
    }

    /// Forgets files and directories that no name can lead to any more, except those in `handles`.
    pub(super) fn collect(&mut self, handles: &BTreeMap<Id, usize>) {
        let named = self.directories.values().flat_map(|dir| dir.live.values().chain(dir.durable.values()));
        let changing = self
            .changes
            .iter()
            .flat_map(|change| change.places.iter().filter_map(|(_, _, id)| *id).chain([change.subject]));
        let mut kept: BTreeSet<Id> = named.copied().chain(changing).collect();
        kept.extend(handles.keys());
        kept.insert(ROOT);
        self.files.retain(|id, _| kept.contains(id));
        self.directories.retain(|id, _| kept.contains(id));
    }

    /// The device after a power cut now.
    pub(super) fn after_crash(&self, survival: Survival, random: &mut Random) -> Self {
        let survives = |change: &NameChange| match survival {
            Survival::SyncedOnly => None,
            Survival::Everything => Some(change.number),
            Survival::Random => random.coin().then_some(change.number),
        };
        let chosen: BTreeSet<u64> = self.changes.iter().filter_map(survives).collect();
        let kept = with_predecessors(&self.changes, |change| chosen.contains(&change.number));
        let mut names: BTreeMap<Id, BTreeMap<String, Id>> =
            self.directories.iter().map(|(&id, dir)| (id, dir.durable.clone())).collect();
        for change in self.changes.iter().filter(|change| kept.contains(&change.number)) {
            for (dir, name, id) in &change.places {
                if let Some(entries) = names.get_mut(dir) {
                    set(entries, name.clone(), *id);
                }
            }
        }
        let mut after = Self { next_id: self.next_id, ..Self::new(self.capacity_bytes) };
        let mut open = vec![ROOT];
        while let Some(id) = open.pop() {
            if let Some(entries) = names.remove(&id) {
                open.extend(entries.values());
                after.directories.insert(id, Rc::new(Directory { live: entries.clone(), durable: entries }));
            } else if let Some(file) = self.files.get(&id) {
                let file = file.after_crash(survival, random);
                after.used_blocks += file.live().allocated_blocks();
                after.files.insert(id, Rc::new(file));
            }
        }
        after
    }

    /// The device as the next process finds it without a power cut.
    pub(super) fn after_exit(&self, random: &mut Random) -> Self {
        let mut after = self.clone();
        for file in after.files.values_mut() {
            *file = Rc::new(file.after_exit(random));
        }
        after.used_blocks = after.files.values().map(|file| file.live().allocated_blocks()).sum();
        after
    }

    fn find(&self, path: &Path) -> io::Result<Id> {
        components(path)?.into_iter().try_fold(ROOT, |dir, name| {
            let directory = self.directories.get(&dir).ok_or_else(|| errno(libc::ENOTDIR))?;
            directory.live.get(name).copied().ok_or_else(|| errno(libc::ENOENT))
        })
    }

    /// The directory that holds `path`, and its last component.
    fn place<'a>(&self, path: &'a Path) -> io::Result<(Id, &'a str)> {
        let name = components(path)?.pop().ok_or_else(|| errno(libc::EINVAL))?;
        let parent = path.parent().unwrap_or(Path::new(""));
        Ok((self.find_dir(parent)?, name))
    }

    fn change(&mut self, subject: Id, places: Vec<(Id, String, Option<Id>)>) {
        for (dir, name, id) in &places {
            let directory = self.directories.get_mut(dir).expect("the place was looked up just now");
            set(&mut Rc::make_mut(directory).live, name.clone(), *id);
        }
        let number = self.take_id();
        self.changes.push(NameChange { number, subject, places });
    }

    fn take_id(&mut self) -> Id {
        let id = self.next_id;
        self.next_id += 1;
        id
    }
}

/// Numbers of the picked changes and of every earlier one they must follow.
fn with_predecessors(changes: &[NameChange], mut picked: impl FnMut(&NameChange) -> bool) -> BTreeSet<u64> {
    let mut kept: Vec<&NameChange> = Vec::new();
    for change in changes.iter().rev() {
        if picked(change) || kept.iter().any(|later| later.must_follow(change)) {
            kept.push(change);
        }
    }
    kept.into_iter().map(|change| change.number).collect()
}

fn set(entries: &mut BTreeMap<String, Id>, name: String, id: Option<Id>) {
    match id {
        Some(id) => entries.insert(name, id),
        None => entries.remove(&name),
    };
}

/// Names from the root down; a path that could leave the data directory is refused as the real backends do.
fn components(path: &Path) -> io::Result<Vec<&str>> {
    let name = |component| match component {
        Component::CurDir => None,
        Component::Normal(name) => Some(name.to_str().ok_or_else(|| errno(libc::EINVAL))),
        Component::Prefix(_) | Component::RootDir | Component::ParentDir => Some(Err(errno(libc::EINVAL))),
    };
    path.components().filter_map(name).collect()
}

pub(super) fn errno(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}
