//! `levada ping`.

use crate::args::PingArgs;
use crate::failure::Failure;
use crate::session::{self, Session};
use serde_json::json;
use std::time::Duration;

const PAUSE: Duration = Duration::from_millis(100);

pub(crate) async fn run(session: &Session, args: PingArgs) -> Result<(), Failure> {
    let client = session.connect().await?;
    let mut times_us: Vec<f64> = Vec::new();
    for index in 0..args.count {
        if index > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        let time_us = client.ping().await?.as_secs_f64() * 1e6;
        times_us.push(time_us);
        if !session.screen.is_json() {
            session.screen.text(&format!("answer {} after {:.3} ms", index + 1, time_us / 1000.0))?;
        }
    }
    session::close(&client).await;
    let min = times_us.iter().copied().fold(f64::INFINITY, f64::min);
    let max = times_us.iter().copied().fold(0.0, f64::max);
    let mean = times_us.iter().sum::<f64>() / f64::from(args.count);
    let server = client.server_info().map(|info| info.server_version);
    let report = json!({"count": args.count, "min_us": min, "mean_us": mean, "max_us": max, "server_version": server});
    session.screen.show(&report, |_| {
        let server = server.map_or(String::new(), |version| format!("levada-server {version}, "));
        format!("{server}round trip min {:.3} ms, mean {:.3} ms, max {:.3} ms", min / 1e3, mean / 1e3, max / 1e3)
    })
}
