//! The corpus of the fuzz targets, replayed: each input as it is, cut at every byte, and with each byte changed.

#[cfg(test)]
#[path = "../fuzz/targets.rs"]
mod targets;

#[cfg(test)]
mod replay {
    use std::path::{Path, PathBuf};

    use crate::targets::TARGETS;

    fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let mut inputs: Vec<_> = std::fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.clone(), std::fs::read(path).unwrap()))
            .collect();
        inputs.sort();
        assert!(!inputs.is_empty(), "no corpus of {target}");
        inputs
    }

    #[test]
    fn the_corpus_of_every_target_passes() {
        for (name, run) in TARGETS {
            for (_, input) in corpus(name) {
                run(&input);
                for length in 0..input.len().min(600) {
                    run(&input[..length]);
                    for change in [0x01, 0x80, 0xff] {
                        let mut changed = input.clone();
                        changed[length] ^= change;
                        run(&changed);
                    }
                }
            }
        }
    }

    #[test]
    fn every_target_has_its_binary() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
        let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        for (name, _) in TARGETS {
            assert!(manifest.contains(&format!("name = \"{name}\"\n")), "{name}");
            assert!(folder.join(format!("fuzz_targets/{name}.rs")).is_file(), "{name}");
        }
    }
}
