//! `levada user`.

use super::token;
use crate::args::{RoleName, UserAlterArgs, UserCommand};
use crate::failure::Failure;
use crate::screen::{Screen, Value};
use crate::secret::new_password;
use crate::session::{self, Session};
use crate::view::{TokenView, UserView};
use levada::{Admin, Role};
use serde_json::json;

pub(crate) async fn run(session: &Session, command: UserCommand) -> Result<(), Failure> {
    let client = session.connect().await?;
    let result = act(&client.admin(), &session.screen, command).await;
    session::close(&client).await;
    result
}

async fn act(admin: &Admin, screen: &Screen, command: UserCommand) -> Result<(), Failure> {
    match command {
        UserCommand::Create { user, role, grant, password_file } => {
            let password = new_password(&user.0, password_file.as_deref())?;
            let user = UserView::from(admin.create_user(&user.0, &password, role_of(role), &grant).await?);
            let may_nothing = role == RoleName::Member && grant.is_empty();
            screen.show(&user, |_| {
                let UserView { user, role, .. } = &user;
                let next = if may_nothing {
                    format!(". It may do nothing yet: `levada access set {user} --grant 'STREAM/TOPIC:read,write'`")
                } else {
                    String::new()
                };
                format!("Created user {user} with role {role}{next}")
            })
        }
        UserCommand::List => {
            let users: Vec<_> = admin.list_users().await?.into_iter().map(UserView::from).collect();
            screen.show(&users, |screen| list(screen, &users))
        }
        UserCommand::Describe { user } => {
            let description = admin.describe_user(&user.0).await?;
            let mut user = UserView::from(description.user);
            user.tokens = Some(description.tokens.into_iter().map(TokenView::from).collect());
            screen.show(&user, |screen| describe(screen, &user))
        }
        UserCommand::Alter(args) => alter(admin, screen, args).await,
        UserCommand::Delete { user } => {
            admin.delete_user(&user.0).await?;
            screen.show(&json!({"deleted": user.0}), |_| format!("Deleted user {user}"))
        }
    }
}

async fn alter(admin: &Admin, screen: &Screen, args: UserAlterArgs) -> Result<(), Failure> {
    let UserAlterArgs { user, changes } = args;
    let asks = changes.password || changes.password_file.is_some();
    let password = if asks { Some(new_password(&user.0, changes.password_file.as_deref())?) } else { None };
    let user = UserView::from(admin.alter_user(&user.0, password.as_deref(), changes.role.map(role_of)).await?);
    let password = if asks { ", with a new password; what the old one opened has ended" } else { "" };
    screen.show(&user, |_| format!("User {} has role {}{password}", user.user, user.role))
}

fn role_of(name: RoleName) -> Role {
    match name {
        RoleName::Admin => Role::Admin,
        RoleName::Member => Role::Member,
    }
}

fn list(screen: &Screen, users: &[UserView]) -> String {
    let rows = users
        .iter()
        .map(|u| [Value::text(&u.user), Value::text(u.role), Value::figure(u.token_count), Value::time(&u.created_at)]);
    screen.table(["USER", "ROLE", "TOKENS", "CREATED"], rows.collect())
}

fn describe(screen: &Screen, user: &UserView) -> String {
    let head = screen.properties(vec![
        ("User", Value::text(&user.user)),
        ("Id", Value::text(user.user_id)),
        ("Role", Value::text(user.role)),
        ("Created", Value::time(&user.created_at)),
    ]);
    format!("{head}\n{}", token::list(screen, user.tokens.as_deref().unwrap_or_default()))
}
