//! `levada access`, `levada role` and `levada quota`.

use crate::args::{AccessCommand, AccessSetArgs, QuotaCommand, QuotaSetArgs, RoleCommand};
use crate::failure::Failure;
use crate::screen::{Screen, Value};
use crate::session::{self, Session};
use crate::units::{Limit, Size, human_bytes};
use crate::view::{AccessView, QuotaView, RoleView};
use levada::{Admin, Quota};
use serde_json::json;

pub(crate) async fn access(session: &Session, command: AccessCommand) -> Result<(), Failure> {
    let client = session.connect().await?;
    let result = match command {
        AccessCommand::Show { user } => {
            show(&client.admin(), &session.screen, user.as_ref().map(|user| &*user.0)).await
        }
        AccessCommand::Set(args) => set(&client.admin(), &session.screen, args).await,
    };
    session::close(&client).await;
    result
}

pub(crate) async fn role(session: &Session, command: RoleCommand) -> Result<(), Failure> {
    let client = session.connect().await?;
    let result = act_on_role(&client.admin(), &session.screen, command).await;
    session::close(&client).await;
    result
}

pub(crate) async fn quota(session: &Session, command: QuotaCommand) -> Result<(), Failure> {
    let client = session.connect().await?;
    let (admin, screen) = (client.admin(), &session.screen);
    let result = match command {
        QuotaCommand::Show { user } => show_quota(&admin, screen, user.as_ref().map(|user| &*user.0)).await,
        QuotaCommand::Set(args) => set_quota(&admin, screen, args).await,
    };
    session::close(&client).await;
    result
}

async fn show(admin: &Admin, screen: &Screen, user: Option<&str>) -> Result<(), Failure> {
    let access = AccessView::from(admin.describe_access(user).await?);
    screen.show(&access, |screen| describe(screen, &access))
}

async fn set(admin: &Admin, screen: &Screen, args: AccessSetArgs) -> Result<(), Failure> {
    let AccessSetArgs { user, mut grant, mut role, add } = args;
    if add {
        let now = admin.describe_access(Some(&user.0)).await?;
        grant.extend(now.grants);
        role.extend(now.roles);
    }
    admin.set_access(&user.0, &role, &grant).await?;
    show(admin, screen, Some(&user.0)).await
}

fn describe(screen: &Screen, access: &AccessView) -> String {
    let none_as = |list: &[String]| if list.is_empty() { "none".to_owned() } else { list.join(" ") };
    let head = screen.properties(vec![
        ("User", Value::text(&access.user)),
        ("Role", Value::text(access.role)),
        ("Named roles", Value::text(none_as(&access.roles))),
        ("Own grants", Value::text(none_as(&access.grants))),
    ]);
    if access.effective.is_empty() {
        return format!("{head}\nMay do nothing.");
    }
    let row = |grant: &String| {
        let (pattern, actions) = grant.split_once(':').unwrap_or((grant, ""));
        [Value::text(pattern), Value::text(actions)]
    };
    format!("{head}\n{}", screen.table(["TOPICS", "ACTIONS"], access.effective.iter().map(row).collect()))
}

async fn act_on_role(admin: &Admin, screen: &Screen, command: RoleCommand) -> Result<(), Failure> {
    match command {
        RoleCommand::Set { role, grant } => {
            admin.set_role(&role.0, &grant).await?;
            screen
                .show(&json!({"role": role.0, "grants": grant}), |_| format!("Role {role} allows {}", grant.join(" ")))
        }
        RoleCommand::List => {
            let roles: Vec<_> = admin.list_roles().await?.into_iter().map(RoleView::from).collect();
            screen.show(&roles, |screen| list(screen, &roles))
        }
        RoleCommand::Delete { role } => {
            admin.delete_role(&role.0).await?;
            screen.show(&json!({"deleted": role.0}), |_| format!("Deleted role {role}"))
        }
    }
}

fn list(screen: &Screen, roles: &[RoleView]) -> String {
    if roles.is_empty() {
        return "No named roles.".to_owned();
    }
    let row =
        |role: &RoleView| [Value::text(&role.role), Value::figure(role.user_count), Value::text(role.grants.join(" "))];
    screen.table(["ROLE", "USERS", "GRANTS"], roles.iter().map(row).collect())
}

async fn show_quota(admin: &Admin, screen: &Screen, user: Option<&str>) -> Result<(), Failure> {
    let quota = QuotaView::from(admin.describe_quota(user).await?);
    screen.show(&quota, |screen| {
        let rate =
            |bytes: Option<u64>| bytes.map_or("unlimited".to_owned(), |bytes| format!("{}/s", human_bytes(bytes)));
        let number = |count: Option<u32>| count.map_or("unlimited".to_owned(), |count| count.to_string());
        screen.properties(vec![
            ("User", Value::text(&quota.user)),
            ("Bytes in", Value::text(rate(quota.bytes_in))),
            ("Bytes out", Value::text(rate(quota.bytes_out))),
            ("Requests/s", Value::text(number(quota.requests))),
            ("Connections", Value::text(number(quota.connections))),
        ])
    })
}

async fn set_quota(admin: &Admin, screen: &Screen, args: QuotaSetArgs) -> Result<(), Failure> {
    let QuotaSetArgs { user, limits } = args;
    let now = admin.describe_quota(Some(&user.0)).await?;
    // 0 and `unlimited` lift a limit; what is not named stays.
    let bytes = |given: Option<Limit<Size>>, now: Option<u64>| match given {
        None => now,
        Some(Limit::Unlimited | Limit::To(Size(0))) => None,
        Some(Limit::To(Size(bytes))) => Some(bytes),
    };
    let count = |given: Option<u32>, now: Option<u32>| given.map_or(now, |count| (count != 0).then_some(count));
    let quota = Quota {
        bytes_in: bytes(limits.bytes_in, now.bytes_in),
        bytes_out: bytes(limits.bytes_out, now.bytes_out),
        requests: count(limits.requests, now.requests),
        connections: count(limits.connections, now.connections),
    };
    admin.set_quota(&user.0, quota).await?;
    show_quota(admin, screen, Some(&user.0)).await
}
