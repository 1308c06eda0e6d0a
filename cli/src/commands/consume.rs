//! `levada consume`: batches in the order they come, each partition in order, written through one buffer. As a member of a
//! group, what was written is what counts as done.

use crate::address::TopicPart;
use crate::args::{ConsumeArgs, OutputFormat};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::render::{self, HeaderShown, Shown};
use crate::session::{self, Session};
use crate::units::From;
use levada::{Batch, Consumer, ConsumerOptions, GroupConsumerOptions, Header, HeaderValue, Position};
use std::io::{self, BufWriter, Write};
use std::time::Duration;

const BUFFER_BYTES: usize = 256 << 10;
/// How long a member may take for its last commit.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);
/// How much a member takes at once, and how long it waits before it asks again.
const TAKE_MESSAGES: u64 = 1000;
const TAKE_BYTES: usize = 4 << 20;
const TAKE_WITHIN: Duration = Duration::from_secs(60);

pub(crate) async fn run(session: &Session, args: ConsumeArgs) -> Result<(), Failure> {
    match &args.group {
        Some(group) => run_member(session, group, &args).await,
        None => run_alone(session, &args).await,
    }
}

async fn run_alone(session: &Session, args: &ConsumeArgs) -> Result<(), Failure> {
    let options = options(args)?;
    let client = session.connect().await?;
    let interrupt = Interrupt::listen()?;
    let consumer = client.consumer(options).await?;
    let mut printer = Printer::new(session, args);
    let result = print_all(&consumer, &mut printer, &interrupt).await;
    let flushed = printer.out.flush().map_err(|error| Failure::output(&error));
    session::close(&client).await;
    result.and(flushed)?;
    if interrupt.was_asked() && !args.follow {
        return Err(Failure::failed("interrupted before the end"));
    }
    Ok(())
}

async fn run_member(session: &Session, group: &str, args: &ConsumeArgs) -> Result<(), Failure> {
    let client = session.connect().await?;
    let interrupt = Interrupt::listen()?;
    let options = GroupConsumerOptions::new(group, &args.topics).from(position(args.from)).auto_commit(args.commit);
    let consumer = client.group_consumer(options).await?;
    let mut printer = Printer::new(session, args);
    let result = print_assigned(&consumer, &mut printer, &interrupt).await;
    let flushed = printer.out.flush().map_err(|error| Failure::output(&error));
    // Only what was written may be committed.
    let closed = match (&result, &flushed) {
        (Ok(()), Ok(())) => consumer.close(CLOSE_WITHIN).await.map_err(Failure::from),
        _ => Ok(()),
    };
    drop(consumer);
    session::close(&client).await;
    result.and(flushed).and(closed)
}

async fn print_assigned(consumer: &Consumer, printer: &mut Printer, interrupt: &Interrupt) -> Result<(), Failure> {
    while printer.left > 0 {
        let most = usize::try_from(printer.left.min(TAKE_MESSAGES)).unwrap_or(usize::MAX);
        let batches = tokio::select! {
            biased;
            () = interrupt.asked() => return Ok(()),
            batches = consumer.receive_batch(most, TAKE_BYTES, TAKE_WITHIN) => batches?,
        };
        for batch in &batches {
            printer.print(batch).map_err(|error| Failure::output(&error))?;
        }
        // What the next take counts as done must be out.
        printer.out.flush().map_err(|error| Failure::output(&error))?;
    }
    Ok(())
}

fn options(args: &ConsumeArgs) -> Result<ConsumerOptions, Failure> {
    let [topic] = args.topics.as_slice() else {
        let hint = "`--group NAME` reads many topics as a member of a group";
        return Err(Failure::usage("without --group it reads one topic").hint(hint));
    };
    let topic: TopicPart = topic.parse().map_err(|error: String| Failure::usage(error))?;
    let options = ConsumerOptions::new(topic.to_string()).from(position(args.from));
    Ok(if args.follow { options } else { options.until_end() })
}

pub(crate) fn position(from: From) -> Position {
    match from {
        From::Earliest => Position::EARLIEST,
        From::Latest => Position::LATEST,
        From::Offset(offset) => Position::offset(offset),
        From::TimeUs(time_us) => Position::timestamp(time_us),
        From::Last(count) => Position::last(count),
    }
}

async fn print_all(consumer: &Consumer, printer: &mut Printer, interrupt: &Interrupt) -> Result<(), Failure> {
    while printer.left > 0 {
        let batch = tokio::select! {
            biased;
            () = interrupt.asked() => return Ok(()),
            batch = consumer.next_batch() => batch?,
        };
        let Some(batch) = batch else { return Ok(()) };
        printer.print(&batch).map_err(|error| Failure::output(&error))?;
    }
    Ok(())
}

struct Printer {
    out: BufWriter<io::StdoutLock<'static>>,
    format: OutputFormat,
    colour: bool,
    left: u64,
    /// Whether somebody watches as it comes.
    prompt: bool,
    /// Whether the topic is told.
    tells_topic: bool,
}

impl Printer {
    fn new(session: &Session, args: &ConsumeArgs) -> Self {
        let usual = if session.screen.is_json() { OutputFormat::Json } else { OutputFormat::Raw };
        Self {
            out: BufWriter::with_capacity(BUFFER_BYTES, io::stdout().lock()),
            format: args.format.unwrap_or(usual),
            colour: session.screen.colour(),
            left: args.max.unwrap_or(u64::MAX),
            tells_topic: args.group.is_some(),
            prompt: args.follow || session.screen.output_is_terminal(),
        }
    }

    fn print(&mut self, batch: &Batch) -> io::Result<()> {
        let (partition, append_time_us) = (batch.partition(), batch.append_time_us());
        for message in batch.messages() {
            if self.left == 0 {
                break;
            }
            self.left -= 1;
            if self.format == OutputFormat::Raw {
                self.out.write_all(message.payload.unwrap_or_default())?;
                self.out.write_all(b"\n")?;
                continue;
            }
            let headers = message.headers();
            let shown = Shown {
                topic: self.tells_topic.then(|| &**batch.topic()),
                partition,
                offset: message.offset,
                timestamp_us: message.timestamp_us,
                append_time_us,
                key: message.key,
                headers: headers.iter().map(header),
                payload: message.payload,
            };
            render::write(&mut self.out, self.format, self.colour, shown)?;
        }
        if self.prompt { self.out.flush() } else { Ok(()) }
    }
}

fn header(header: &Header) -> (&str, HeaderShown<'_>) {
    let value = match &header.value {
        HeaderValue::String(text) => HeaderShown::Text(text),
        HeaderValue::Bytes(bytes) => HeaderShown::Bytes(bytes),
        HeaderValue::Bool(value) => HeaderShown::Bool(*value),
        HeaderValue::I64(value) => HeaderShown::Signed(*value),
        HeaderValue::U64(value) => HeaderShown::Unsigned(*value),
        HeaderValue::F64(value) => HeaderShown::Float(*value),
    };
    (&header.name, value)
}
