//! `levada status`.

use crate::failure::Failure;
use crate::screen::{Screen, Value};
use crate::session::{self, Session};
use crate::units::{human_bytes, human_count, human_span};
use crate::view::StatusView;

pub(crate) async fn run(session: &Session) -> Result<(), Failure> {
    let client = session.connect().await?;
    let status = client.admin().status().await.map(StatusView::from);
    session::close(&client).await;
    let status = status?;
    session.screen.show(&status, |screen| properties(screen, &status))
}

fn properties(screen: &Screen, s: &StatusView) -> String {
    let used = s.disk_total_bytes.saturating_sub(s.disk_free_bytes);
    let used_percent = used.saturating_mul(100).checked_div(s.disk_total_bytes).unwrap_or(0);
    let flushes = match s.flush_count {
        0 => "none yet".to_owned(),
        count => format!("{}, recent p50 {}, p99 {}", human_count(count), flush(s.flush_p50_us), flush(s.flush_p99_us)),
    };
    let read_only = match s.read_only_partitions.len() {
        0 => Value::text("none"),
        count => Value::Alert(count.to_string()),
    };
    let head = screen.properties(vec![
        ("Server", Value::text(format!("levada-server {}, node {}", s.server_version, s.node_id))),
        ("Up", Value::text(human_span(s.uptime_ms.saturating_mul(1000)))),
        ("Cores", Value::text(s.shard_count)),
        ("Streams", Value::text(human_count(s.stream_count.into()))),
        ("Topics", Value::text(human_count(s.topic_count.into()))),
        ("Partitions", Value::text(human_count(s.partition_count.into()))),
        ("Read-only", read_only),
        ("Connections", Value::text(human_count(s.connection_count.into()))),
        ("Subscriptions", Value::text(human_count(s.subscription_count.into()))),
        (
            "Disk",
            Value::text(format!(
                "{} free of {} ({used_percent} % used), backend {}",
                human_bytes(s.disk_free_bytes),
                human_bytes(s.disk_total_bytes),
                s.disk_backend
            )),
        ),
        ("Flushes", Value::text(flushes)),
        ("Appended", Value::text(format!("{} since start", human_bytes(s.appended_bytes)))),
        ("Cache", Value::text(human_bytes(s.cache_bytes))),
    ]);
    if s.read_only_partitions.is_empty() {
        return head;
    }
    let rows = s
        .read_only_partitions
        .iter()
        .map(|p| [Value::Alert(format!("{}/{}:{}", p.stream, p.topic, p.partition)), Value::text(&p.reason)]);
    format!("{head}\n{}", screen.table(["READ-ONLY PARTITION", "REASON"], rows.collect()))
}

fn flush(us: u32) -> String {
    format!("{:.2} ms", f64::from(us) / 1000.0)
}
