//! Prints how fast produce requests cross both ends of a connection, with memory for a network:
//! `cargo run --release -p levada-protocol --example connection_bench`.
//!
//! Each batch is framed by the client's machine, copied into the server's read buffer in pieces as a socket would, put
//! together, checked, and acknowledged; the copy stands for the kernel's.

#![expect(clippy::print_stdout, reason = "a bench talks")]
#![expect(clippy::cast_precision_loss, reason = "figures for people")]
#![expect(clippy::disallowed_methods, reason = "a bench measures real time")]

use std::hint::black_box;
use std::io::IoSlice;
use std::time::Instant;

use bytes::{BufMut, Bytes};
use levada_protocol::client::{self, ClientConfig, ClientEvent};
use levada_protocol::messages::{Durability, Produce, ProduceAck};
use levada_protocol::pool::BufferPool;
use levada_protocol::server::{self, ServerConfig, ServerEvent};

const PIECE_BYTES: usize = 256 * 1024;

fn main() {
    println!("{:>12} {:>14} {:>10} {:>16}", "batch bytes", "round trips/s", "MB/s", "copy alone MB/s");
    for body_bytes in [200, 4 * 1024, 64 * 1024, 1024 * 1024] {
        let (rounds, seconds) = run(body_bytes);
        let per_second = rounds as f64 / seconds;
        let (rate, copy) = (per_second * body_bytes as f64 / 1e6, copy_alone(body_bytes));
        println!("{body_bytes:>12} {per_second:>14.0} {rate:>10.0} {copy:>16.0}");
    }
}

/// What the copy of such batches costs by itself, in MB/s: no machine is faster than that here.
fn copy_alone(body_bytes: usize) -> f64 {
    let source = vec![7_u8; body_bytes];
    let mut targets = vec![vec![0_u8; body_bytes]; 2];
    let (start, mut rounds) = (Instant::now(), 0_u64);
    while start.elapsed().as_millis() < 300 {
        for target in &mut targets {
            target.copy_from_slice(black_box(&source));
            black_box(target);
            rounds += 1;
        }
    }
    rounds as f64 * body_bytes as f64 / start.elapsed().as_secs_f64() / 1e6
}

fn run(body_bytes: usize) -> (u64, f64) {
    let mut client = client::Connection::new(ClientConfig::default(), BufferPool::new(64 << 20), 0);
    let config = ServerConfig { auth_required: false, ..ServerConfig::default() };
    let mut server = server::Connection::new(config, BufferPool::new(64 << 20), 0);
    to_server(&mut client, &mut server);
    to_client(&mut server, &mut client);
    // Where a copy's target lies 1 to 31 bytes behind its source modulo 4096, some processors copy ten times slower; keep
    // that out of the figures.
    let body = Bytes::from(vec![7; 1024 + body_bytes]).slice(1024..);
    let produce = Produce { topic_id: 1, partition: 0, durability: Durability::Disk };
    let (start, mut rounds) = (Instant::now(), 0);
    while start.elapsed().as_millis() < 500 {
        for _ in 0..16 {
            client.request_with_body(&produce, vec![body.clone()]).expect("fits a frame");
            rounds += 1;
        }
        to_server(&mut client, &mut server);
        to_client(&mut server, &mut client);
    }
    assert_eq!(client.unanswered_count(), 0, "every request is answered");
    (rounds, start.elapsed().as_secs_f64())
}

fn to_server(client: &mut client::Connection, server: &mut server::Connection) {
    while 0 < client.outbound_bytes() {
        let mut slices = Vec::new();
        client.slices(&mut slices);
        let mut sent = 0;
        for slice in &slices {
            sent += feed(slice, |piece| {
                let used = fill(server.read_buffer(), piece);
                server.on_received(0, 0);
                while let Some(event) = server.poll_event().expect("the client keeps to the protocol") {
                    acknowledge(server, event);
                }
                used
            });
        }
        drop(slices);
        client.on_sent(sent, 0);
    }
}

fn acknowledge(server: &mut server::Connection, event: ServerEvent) {
    if let ServerEvent::Request { correlation, .. } = event {
        let durability = Durability::Disk;
        let ack = ProduceAck { base_offset: 0, append_time_us: 0, leader_epoch: 1, durability, flags: 0 };
        server.reply(correlation, &ack);
    }
}

fn to_client(server: &mut server::Connection, client: &mut client::Connection) {
    while 0 < server.outbound_bytes() {
        let mut slices: Vec<IoSlice<'_>> = Vec::new();
        server.slices(&mut slices);
        let mut sent = 0;
        for slice in &slices {
            sent += feed(slice, |piece| {
                let used = fill(client.read_buffer(), piece);
                client.on_received(0);
                while let Some(event) = client.poll_event().expect("the server keeps to the protocol") {
                    assert!(matches!(event, ClientEvent::Ready { .. } | ClientEvent::Reply { .. }), "{event:?}");
                }
                used
            });
        }
        drop(slices);
        server.on_sent(sent);
    }
}

fn feed(mut bytes: &[u8], mut read: impl FnMut(&[u8]) -> usize) -> usize {
    let total = bytes.len();
    while !bytes.is_empty() {
        let used = read(bytes);
        bytes = &bytes[used..];
    }
    total
}

/// As a socket read.
fn fill(buffer: &mut dyn BufMut, bytes: &[u8]) -> usize {
    let used = buffer.remaining_mut().min(bytes.len()).min(PIECE_BYTES);
    buffer.put_slice(&bytes[..used]);
    used
}
