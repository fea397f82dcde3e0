//! The status of a relay one of whose sessions doesn't answer: its task is stuck, or ends just now.

use std::time::Duration;

use tokio::sync::mpsc;

use super::dice::Dice;
use super::world::{Plan, World};
use crate::relay::clock;
use crate::relay::hub::Command;
use crate::relay::status::{self, ANSWER_TIME};

#[tokio::test(start_paused = true)]
async fn a_session_that_does_not_answer_is_shown_so_and_holds_nobody_up() {
    let world = World::new(Plan::quiet(), &mut Dice::new(1));
    world.start(0);
    let hub = world.hub(0).unwrap();
    let mut sessions = Vec::new();
    for _ in 0..5 {
        let session = world.accepted(&hub, 1).await;
        let (sender, commands) = mpsc::unbounded_channel();
        hub.register_session(&session, sender);
        sessions.push((session, commands));
    }
    // The first answers late, the second is stuck, the third ends without a word, the others answer.
    let (answering, stuck) = (sessions.split_off(3), sessions.remove(1));
    let (ending, late) = (sessions.remove(1), sessions.remove(0));
    drop(ending.1);
    for (after, (session, mut commands)) in
        answering.into_iter().map(|one| (Duration::ZERO, one)).chain([(2 * ANSWER_TIME, late)])
    {
        tokio::spawn(async move {
            while let Some(Command::Tell(asked)) = commands.recv().await {
                tokio::time::sleep(after).await;
                session.tell(asked);
            }
        });
    }
    let begun = clock::now();
    let told = status::of(&hub).await;
    let took = clock::now() - begun;
    assert!(took >= ANSWER_TIME && took < ANSWER_TIME + Duration::from_millis(10), "{took:?}");
    // In the order of their numbers: each stands there with what is known of it.
    let answered: Vec<bool> = told.sessions.iter().map(|session| session.told.is_some()).collect();
    assert_eq!(answered, [false, false, false, true, true]);
    assert!(told.sessions.iter().all(|session| session.peer == "192.0.2.2:5269"), "{:?}", told.sessions);
    // Whoever is stuck was asked once for each status, and takes up no more than that.
    let (_, mut commands) = stuck;
    assert!(matches!(commands.try_recv(), Ok(Command::Tell(asked)) if asked.is_closed()));
    assert!(commands.try_recv().is_err());
}
