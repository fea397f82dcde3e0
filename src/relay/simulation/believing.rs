//! A connection whose handshake was under way when the authorities changed.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::dice::Dice;
use super::world::{Plan, World};
use crate::identity::development::DevelopmentCa;
use crate::identity::trust::{Anchors, TrustStore};
use crate::relay::hub::Command;
use crate::xmpp::domain::DomainPattern;

#[tokio::test(start_paused = true)]
async fn who_was_believed_by_authorities_that_are_others_by_now_leaves_at_once() {
    let world = World::new(Plan::quiet(), &mut Dice::new(1));
    world.start(0);
    let hub = world.hub(0).unwrap();
    let anchors = Anchors::from_pem(DevelopmentCa::create().unwrap().ca_pem()).unwrap();
    // Its certificate is for b0.test, to which no authority is pinned now.
    for (pinned, leaves) in [("b0.test", true), ("c0.test", false)] {
        let session = world.accepted(&hub, 1).await;
        let pinned = vec![(vec![DomainPattern::parse(pinned).unwrap()], anchors.clone())];
        session.verdict.judged_by(&Arc::new(TrustStore::new(Anchors::none(), pinned)));
        let (sender, mut commands) = mpsc::unbounded_channel();
        hub.register_session(&session, sender);
        assert_eq!(session.leaves().is_some(), leaves);
        assert_eq!(matches!(commands.try_recv(), Ok(Command::Leave)), leaves);
    }
}
