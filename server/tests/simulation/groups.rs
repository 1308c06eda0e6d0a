//! A consumer group in the simulation: its members live through every trouble, and what they committed is there in the end,
//! whatever the disk lost.

use std::rc::Rc;
use std::time::Duration;

use levada::Credentials;

use crate::cast::{Cast, Dress, GROUP, Ledger, Pace, check_stored, stored};
use crate::world::World;

/// Virtual time.
const PACE: Pace = Pace {
    members: 3,
    changes: 14,
    session: Duration::from_secs(2),
    release: Duration::from_secs(1),
    beat: Duration::from_millis(80),
    patience: Duration::from_secs(5),
    rest: Duration::from_secs(300),
    is_undisturbed: false,
};

/// The members of the world's group.
pub(crate) fn cast(world: &Rc<World>) -> Cast {
    let here = Rc::clone(world);
    let dress: Dress = Rc::new(move |connector| here.options_through(connector, Credentials::token(here.root_token())));
    let random = world.random.borrow_mut().fork();
    Cast::new(PACE, std::sync::Arc::new(world.net.clone()), dress, random)
}

/// After the last power cut: everything is stored that was said to be, and opening the logs again changes nothing.
pub(crate) async fn check(world: &Rc<World>, ledger: &Ledger) -> Result<(), String> {
    let client = world.client().await;
    check_stored(ledger, &client).await;
    // Until the last static member is none any more.
    tokio::time::sleep(2 * PACE.session).await;
    let before = (group(&client).await?, stored(&client).await);
    world.stop().await?;
    world.start().await?;
    let client = world.client().await;
    let after = (group(&client).await?, stored(&client).await);
    if before != after {
        ledger.note(format!("the group was {before:?}, and after a restart {after:?}"));
    }
    Ok(())
}

async fn group(client: &levada::Client) -> Result<levada::GroupInfo, String> {
    client.admin().describe_group(GROUP).await.map(|described| described.group).map_err(|error| error.to_string())
}
