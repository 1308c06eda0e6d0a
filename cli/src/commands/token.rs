//! `levada token`.

use crate::args::TokenCommand;
use crate::failure::Failure;
use crate::screen::{Screen, Value};
use crate::session::{self, Session};
use crate::units::Span;
use crate::view::TokenView;
use levada::{Admin, Clock, SystemClock};
use serde_json::json;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

pub(crate) async fn run(session: &Session, command: TokenCommand) -> Result<(), Failure> {
    let client = session.connect().await?;
    let result = act(&client.admin(), &session.screen, command).await;
    session::close(&client).await;
    result
}

async fn act(admin: &Admin, screen: &Screen, command: TokenCommand) -> Result<(), Failure> {
    let text = |name: &Option<crate::address::Name>| name.as_ref().map(|name| name.0.clone());
    match command {
        TokenCommand::Create { name, user, expires_in, scope, write } => {
            // The file first: a token whose secret could not be kept would be of no use.
            let file = write.as_deref().map(|path| create_private(path).map(|file| (file, path))).transpose()?;
            let owner = text(&user);
            let scope = (!scope.is_empty()).then_some(&scope[..]);
            let created = admin.create_token(&name.0, owner.as_deref(), expires_in.map(expiry), scope).await;
            if created.is_err()
                && let Some((_, path)) = &file
            {
                let _ = std::fs::remove_file(path);
            }
            let created = created?;
            let mut view = TokenView::from(created.token);
            match file {
                Some((mut file, path)) => {
                    let written = writeln!(file, "{}", created.secret).and_then(|()| file.sync_all());
                    written.map_err(|error| Failure::file("write", path, &error))?;
                    screen.show(&view, |_| format!("Created token {name}; its secret is in {}", path.display()))
                }
                None => {
                    view.secret = Some(created.secret.clone());
                    screen.note(&format!("Created token {name}. Keep this secret: it is not shown again."));
                    screen.show(&view, |_| created.secret)
                }
            }
        }
        TokenCommand::List { user } => {
            let tokens: Vec<_> =
                admin.list_tokens(text(&user).as_deref()).await?.into_iter().map(TokenView::from).collect();
            screen.show(&tokens, |screen| list(screen, &tokens))
        }
        TokenCommand::Describe { name, user } => {
            let tokens = admin.list_tokens(text(&user).as_deref()).await?;
            let token = tokens.into_iter().find(|token| token.name == name.0).map(TokenView::from);
            let token = token.ok_or_else(|| Failure::failed(format!("TOKEN_NOT_FOUND: there is no token {name}")))?;
            screen.show(&token, |screen| properties(screen, &token))
        }
        TokenCommand::Delete { name, user } => {
            admin.delete_token(&name.0, text(&user).as_deref()).await?;
            screen.show(&json!({"deleted": name.0}), |_| format!("Revoked token {name}"))
        }
    }
}

fn expiry(span: Span) -> i64 {
    SystemClock.now_us().saturating_add_unsigned(span.0)
}

fn create_private(path: &Path) -> Result<File, Failure> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| Failure::file("create", path, &error))
}

fn expires(token: &TokenView) -> &str {
    token.expires_at.as_deref().unwrap_or("never")
}

fn scope(token: &TokenView) -> String {
    token.scope.as_ref().map_or_else(|| "all of its user".to_owned(), |scope| scope.join(" "))
}

pub(crate) fn list(screen: &Screen, tokens: &[TokenView]) -> String {
    if tokens.is_empty() {
        return "No tokens.".to_owned();
    }
    let rows = tokens.iter().map(|t| {
        let (expires, created) = (Value::time(expires(t)), Value::time(&t.created_at));
        [Value::text(&t.name), Value::text(&t.user), Value::text(scope(t)), expires, created]
    });
    screen.table(["TOKEN", "USER", "SCOPE", "EXPIRES", "CREATED"], rows.collect())
}

fn properties(screen: &Screen, token: &TokenView) -> String {
    screen.properties(vec![
        ("Token", Value::text(&token.name)),
        ("Id", Value::text(token.token_id)),
        ("User", Value::text(&token.user)),
        ("Scope", Value::text(scope(token))),
        ("Expires", Value::time(expires(token))),
        ("Created", Value::time(&token.created_at)),
    ])
}
