//! Operations, queues and handles as a binding meets them, without a server: what is refused, given up, inherited.
#![expect(clippy::unwrap_used, reason = "a test says what must hold")]

use std::borrow::Cow;
use std::net::TcpListener;
use std::time::Duration;

use levada::{Error, ErrorCode};
use levada_ffi::{Client, Event, Named, Operation, Queue, To, Value};

const LONG: Option<Duration> = Some(Duration::from_secs(30));

/// Options of a client of the server at that address, which asks for no credentials.
fn options(server: &str) -> Named {
    vec![(Cow::Borrowed("server"), Value::Text(server.to_owned())), (Cow::Borrowed("anonymous"), Value::Bool(true))]
}

/// A server that accepts and says nothing.
fn silent() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

fn refused() -> String {
    // Bound and dropped: nobody listens there.
    silent().1
}

fn connect(server: &str, to: To) -> Operation {
    Client::connect(options(server), "levada-test", to)
}

/// An operation that has ended when the call returns: its options are wrong.
fn refused_at_once(to: To) -> Operation {
    Client::connect(vec![(Cow::Borrowed("colour"), Value::Null)], "levada-test", to)
}

fn failure(operation: &Operation) -> Error {
    operation.wait(LONG, &mut || true).unwrap().unwrap_err()
}

fn only_failure(events: Vec<Event>) -> (u64, Error) {
    let [Event::Done { token, outcome: Err(error) }] = <[Event; 1]>::try_from(events).unwrap() else {
        panic!("not a failure");
    };
    (token, error)
}

#[test]
fn a_refused_connection_is_told_to_the_thread_that_waits() {
    let error = failure(&connect(&refused(), To::Here));
    assert!(error.is(ErrorCode::ConnectFailed), "{error}");
}

#[test]
fn a_refused_connection_is_told_to_the_queue_under_its_token() {
    let queue = Queue::with_fd().unwrap();
    let _operation = connect(&refused(), To::Queue(queue.clone(), 7));
    let (token, error) = only_failure(queue.poll(10, LONG));
    assert_eq!(token, 7);
    assert!(error.is(ErrorCode::ConnectFailed), "{error}");
}

#[test]
fn an_operation_given_up_ends_at_once_and_only_once() {
    let (_listener, server) = silent();
    let queue = Queue::with_fd().unwrap();
    let operation = connect(&server, To::Queue(queue.clone(), 1));
    operation.cancel();
    operation.cancel();
    let (_, error) = only_failure(queue.poll(10, LONG));
    assert!(error.is(ErrorCode::Cancelled));
    assert!(!error.maybe_applied(), "connecting takes no effect");
    assert!(queue.drain(10).is_empty());
}

#[test]
fn a_thread_that_gives_up_waiting_leaves_the_operation_alone() {
    let (_listener, server) = silent();
    let operation = connect(&server, To::Here);
    let mut asked = 0;
    let given_up = operation.wait(None, &mut || {
        asked += 1;
        asked < 2
    });
    assert!(given_up.is_none());
    operation.cancel();
    assert!(failure(&operation).is(ErrorCode::Cancelled));
}

#[test]
fn options_are_refused_by_name_before_anything_happens() {
    let mut wrong = options("127.0.0.1:1");
    wrong.push((Cow::Borrowed("colour"), Value::Text("blue".to_owned())));
    let error = failure(&Client::connect(wrong, "levada-test", To::Here));
    assert!(error.is(ErrorCode::ClientUsage));
    assert_eq!(error.detail("argument"), Some("colour"));
}

#[test]
fn a_descriptor_is_readable_exactly_while_events_wait() {
    let queue = Queue::with_fd().unwrap();
    let fd = queue.fd().unwrap();
    assert!(!is_readable(fd));
    let operations = [1, 2].map(|token| refused_at_once(To::Queue(queue.clone(), token)));
    assert!(is_readable(fd));
    assert_eq!(queue.drain(1).len(), 1);
    assert!(is_readable(fd), "one event is left");
    assert_eq!(queue.drain(10).len(), 1);
    assert!(!is_readable(fd));
    drop(operations);
}

#[test]
fn a_closed_queue_ends_polling_and_takes_nothing() {
    let queue = Queue::new(|| {});
    queue.close();
    assert!(queue.poll(10, None).is_empty());
    let _operation = refused_at_once(To::Queue(queue.clone(), 1));
    assert!(queue.drain(10).is_empty());
}

#[test]
fn a_child_of_fork_is_told_and_may_connect_anew() {
    let queue = Queue::with_fd().unwrap();
    let (_listener, server) = silent();
    let inherited = connect(&server, To::Here);
    let server = refused();
    let failed = in_child(move || {
        let said = inherited.wait(LONG, &mut || true).unwrap().unwrap_err();
        let is_told = said.is(ErrorCode::Forked) && queue.drain(1).is_empty();
        drop((inherited, queue));
        is_told && failure(&connect(&server, To::Here)).is(ErrorCode::ConnectFailed)
    });
    assert!(!failed);
}

#[expect(unsafe_code, reason = "the standard library has no poll")]
fn is_readable(fd: i32) -> bool {
    let mut asked = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry, alive during the call.
    let count = unsafe { libc::poll(&raw mut asked, 1, 0) };
    count == 1
}

/// Whether `holds` fails in a child of this process.
#[expect(unsafe_code, reason = "the standard library has no fork")]
fn in_child(holds: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child runs `holds` and leaves without unwinding; other threads of the test may hold the allocator's lock
    // at the fork, which glibc's own handlers release in the child.
    match unsafe { libc::fork() } {
        0 => {
            let code = i32::from(!holds());
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(code) }
        }
        child => {
            let mut status = 0;
            // SAFETY: `status` is alive during the call.
            unsafe { libc::waitpid(child, &raw mut status, 0) };
            !(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0)
        }
    }
}
