//! The topics there are, as groups see them: names and partition counts, by id. Follows the published metadata.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::metadata::Snapshot;
use crate::metadata::model::Topic;

/// A topic.
#[derive(Clone, Debug)]
pub struct CatalogTopic {
    /// Name of its stream.
    pub stream: Arc<str>,
    topic: Arc<Topic>,
}

impl CatalogTopic {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.topic.name
    }

    /// Its partitions.
    #[must_use]
    pub fn partition_count(&self) -> u32 {
        self.topic.options.partition_count
    }
}

/// All topics by id.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    topics: BTreeMap<u32, CatalogTopic>,
}

impl Catalog {
    /// A topic.
    #[must_use]
    pub fn topic(&self, topic_id: u32) -> Option<&CatalogTopic> {
        self.topics.get(&topic_id)
    }

    /// All of them.
    pub fn topics(&self) -> impl Iterator<Item = (u32, &CatalogTopic)> {
        self.topics.iter().map(|(topic_id, topic)| (*topic_id, topic))
    }

    /// Takes over a version of metadata; the ids of topics that are new, gone or have changed.
    pub fn follow(&mut self, snapshot: &Snapshot) -> Vec<u32> {
        let mut changed: Vec<u32> =
            self.topics.keys().filter(|topic_id| !snapshot.topics.contains_key(topic_id)).copied().collect();
        for topic_id in &changed {
            self.topics.remove(topic_id);
        }
        for (topic_id, topic) in &snapshot.topics {
            match self.topics.get_mut(topic_id) {
                Some(known) if Arc::ptr_eq(&known.topic, topic) => continue,
                Some(known) => known.topic = Arc::clone(topic),
                None => {
                    let stream = snapshot.stream_name(topic).into();
                    self.topics.insert(*topic_id, CatalogTopic { stream, topic: Arc::clone(topic) });
                }
            }
            changed.push(*topic_id);
        }
        changed
    }

    /// For tests: a topic with that many partitions, or gone with none; what [`Catalog::follow`] would tell.
    #[cfg(test)]
    pub(super) fn set(&mut self, topic_id: u32, stream: &str, name: &str, partition_count: u32) -> Vec<u32> {
        use crate::metadata::model::{TopicOptions, TopicSupplement};
        if partition_count == 0 {
            self.topics.remove(&topic_id);
            return vec![topic_id];
        }
        let options = TopicOptions {
            partition_count,
            durability: levada_storage::Durability::Disk,
            compression: crate::metadata::model::Compression::Producer,
            retention_bytes: None,
            retention_age_us: None,
            segment_bytes: None,
            supplement: TopicSupplement::default(),
        };
        let topic = Topic { topic_id, stream_id: 1, name: name.to_owned(), options, created_at_us: 0 };
        self.topics.insert(topic_id, CatalogTopic { stream: stream.into(), topic: Arc::new(topic) });
        vec![topic_id]
    }
}
