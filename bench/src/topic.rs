//! The topic a run works on: one that exists, or a temporary one that goes when the run ends, however it ends.

use crate::plan::Plan;
use crate::run::BenchError;
use levada::{Admin, Clock, DeleteTopics, SystemClock, TopicInfo};

/// Stream of the temporary topics.
const STREAM_PREFIX: &str = "levada-bench";

#[derive(Debug)]
pub(crate) struct BenchTopic {
    pub(crate) name: String,
    pub(crate) info: TopicInfo,
    temporary_stream: Option<String>,
}

impl BenchTopic {
    pub(crate) async fn open(admin: &Admin, plan: &Plan) -> Result<Self, BenchError> {
        if let Some(name) = &plan.topic {
            let info = admin.describe_topic(name).await?.topic;
            return Ok(Self { name: name.clone(), info, temporary_stream: None });
        }
        // Time and process make the name new, so that two runs never share a topic.
        let stream = format!("{STREAM_PREFIX}-{:x}-{:x}", SystemClock.now_us(), std::process::id());
        let name = format!("{stream}/{}", plan.kind.name());
        let mut options = levada::topic_options(plan.partition_count);
        options.durability = plan.durability;
        let info = admin.create_topic(&name, options).await?;
        Ok(Self { name, info, temporary_stream: Some(stream) })
    }

    pub(crate) fn is_temporary(&self) -> bool {
        self.temporary_stream.is_some()
    }

    /// Deletes the topic if it was made here.
    pub(crate) async fn close(self, admin: &Admin) -> Result<(), BenchError> {
        if let Some(stream) = self.temporary_stream {
            admin.delete_stream(&stream, DeleteTopics::Too).await?;
        }
        Ok(())
    }
}
