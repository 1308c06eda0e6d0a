//! `levada context`: saved servers. The file is the client library's, so programs that use it find them too.

use crate::args::{ContextAddArgs, ContextCommand};
use crate::failure::{Failure, plain};
use crate::screen::{Screen, Value};
use crate::session::Session;
use levada::{Context, Contexts, ServerAddress};
use serde::Serialize;
use serde_json::json;
use std::path::{Path, PathBuf};

#[derive(Serialize)]
struct ContextView {
    name: String,
    server: String,
    credentials: String,
    current: bool,
}

pub(crate) fn run(session: &Session, command: ContextCommand) -> Result<(), Failure> {
    let mut contexts = Contexts::load_default()?;
    let screen = &session.screen;
    match command {
        ContextCommand::Add(args) => add(screen, &mut contexts, args),
        ContextCommand::List => list(screen, &contexts),
        ContextCommand::Use { name } => {
            if contexts.get(&name).is_none() {
                return Err(unknown(&name));
            }
            contexts.select(&name)?;
            contexts.save()?;
            screen.show(&json!({"current": name}), |_| format!("Using context {name}"))
        }
        ContextCommand::Remove { name } => {
            if !contexts.remove(&name) {
                return Err(unknown(&name));
            }
            contexts.save()?;
            screen.show(&json!({"removed": name}), |_| format!("Removed context {name}"))
        }
    }
}

fn unknown(name: &str) -> Failure {
    Failure::failed(format!("there is no context `{name}`")).hint("`levada context list` shows what there is")
}

fn add(screen: &Screen, contexts: &mut Contexts, args: ContextAddArgs) -> Result<(), Failure> {
    let address: ServerAddress = args.url.parse()?;
    if args.name.is_empty() || args.name.chars().any(char::is_control) {
        return Err(Failure::usage("a context needs a name of visible characters"));
    }
    let context = Context {
        server: address.to_string(),
        token_file: args.with_token_file.as_deref().map(existing).transpose()?,
        ca_file: args.with_ca_file.as_deref().map(existing).transpose()?,
        ..Context::default()
    };
    contexts.set(&args.name, context);
    if args.use_now {
        contexts.select(&args.name)?;
    }
    contexts.save()?;
    let current = contexts.current().is_some_and(|(name, _)| name == args.name);
    screen.show(&json!({"name": args.name, "current": current}), |_| match current {
        true => format!("Saved context {}, in use from now on", args.name),
        false => format!("Saved context {}; `levada context use {}` makes it the one in use", args.name, args.name),
    })
}

/// The file by a path that holds from any directory.
fn existing(path: &Path) -> Result<PathBuf, Failure> {
    path.canonicalize().map_err(|error| Failure::usage(format!("cannot read {}: {}", path.display(), plain(&error))))
}

fn list(screen: &Screen, contexts: &Contexts) -> Result<(), Failure> {
    let current = contexts.current().map(|(name, _)| name);
    let credentials = |context: &Context| match (&context.token_file, &context.token, &context.user) {
        (Some(path), _, _) => format!("token file {}", path.display()),
        (None, Some(_), _) => "token".to_owned(),
        (None, None, Some(user)) => format!("user {user}"),
        (None, None, None) => "none".to_owned(),
    };
    let view = |(name, context): (&str, &Context)| ContextView {
        name: name.to_owned(),
        server: context.server.clone(),
        credentials: credentials(context),
        current: current == Some(name),
    };
    let views: Vec<_> = contexts.iter().map(view).collect();
    screen.show(&views, |screen| {
        if views.is_empty() {
            return "No contexts. `levada context add NAME URL` saves one.".to_owned();
        }
        let rows = views.iter().map(|context| {
            let mark = if context.current { "yes" } else { "" };
            [
                Value::text(&context.name),
                Value::text(&context.server),
                Value::text(&context.credentials),
                Value::text(mark),
            ]
        });
        screen.table(["CONTEXT", "SERVER", "CREDENTIALS", "IN USE"], rows.collect())
    })
}
