//! Both ends have dialled, and a host waits to join one of the two sessions: it joins the one that takes new lanes, and what
//! it has to say flows meanwhile.

use super::*;

/// How long the second connection takes.
const TAKES: Duration = Duration::from_millis(100);

/// We dial b1.test; it has dialled us too, with exporter value 5, and that session is up. A stanza for b2.test, which has a
/// certificate of its own, waits.
struct Rivals {
    shell: Shell,
    own: (SessionId, LaneId),
    theirs: SessionId,
}

fn to_b2() -> Route {
    route("a1.test", "b2.test")
}

impl Rivals {
    fn new() -> Self {
        let mut shell = Shell::new(Limits::default());
        let first = route("a1.test", "b1.test");
        shell.send(&first);
        let (id, lane, dialled) = shell.dial();
        assert_eq!(dialled, first);
        let theirs = shell.router.fresh_session();
        up_with(&mut shell, theirs, "b1.test", false, 5);
        shell.peer_opened(theirs, &first);
        shell.send(&to_b2());
        Self { shell, own: (id, lane), theirs }
    }

    /// The second connection for b2.test is up, and the stanza has left on it.
    fn second_up(&mut self) {
        let Action::Dial { session, lane, second: true, .. } = self.shell.next_told() else { panic!() };
        self.shell.pass(TAKES);
        up_with(&mut self.shell, session, "b2.test", true, 7);
        self.shell.established(lane);
        assert_eq!(self.shell.lanes_of(&to_b2()), [lane], "it waits for nobody");
    }

    fn own_up(&mut self, exporter: u8) {
        let (id, lane) = self.own;
        up_with(&mut self.shell, id, "b1.test", true, exporter);
        self.shell.established(lane);
    }

    /// The session for which the secret is made.
    fn made_for(&mut self) -> Option<SessionId> {
        self.shell.told.drain(..).find_map(|action| match action {
            Action::MakeSecret { first, host } => {
                assert_eq!(host, domain("b2.test"));
                Some(first)
            }
            _ => None,
        })
    }
}

/// The session `id` is up, in which the peer showed a certificate for `theirs` and lists everything.
fn up_with(shell: &mut Shell, id: SessionId, theirs: &str, dialled: bool, exporter: u8) {
    let mux = theirs == "b1.test";
    let mut session = shell.session_of(names(&[theirs]), dialled, Lanes::PerPair, mux);
    session.learn(Learned { mux, listed: THEIRS.map(domain).to_vec(), ..Learned::default() });
    shell.tell(|router, now| router.session_up(id, session, up(&[PEER], [exporter; 32]), now));
}

#[test]
fn a_host_waits_for_the_attempt_of_our_own_and_joins_the_session_that_wins() {
    for (exporter, wins) in [(1, true), (9, false)] {
        let mut rivals = Rivals::new();
        rivals.second_up();
        assert_eq!(rivals.made_for(), None);
        rivals.shell.pass(TAKES / 2);
        rivals.own_up(exporter);
        let expected = if wins { rivals.own.0 } else { rivals.theirs };
        assert_eq!(rivals.made_for(), Some(expected));
        rivals.shell.pass(seconds(2));
        assert_eq!(rivals.made_for(), None, "once");
    }
}

#[test]
fn a_host_joins_the_session_that_wins_even_if_that_is_up_before_its_second_connection() {
    let mut rivals = Rivals::new();
    rivals.own_up(1);
    rivals.second_up();
    assert_eq!(rivals.made_for(), Some(rivals.own.0));
}

#[test]
fn an_attempt_that_fails_is_waited_for_no_longer() {
    let mut rivals = Rivals::new();
    rivals.second_up();
    rivals.shell.dial_fails(rivals.own.0, Reason::ConnectionTimeout);
    assert_eq!(rivals.made_for(), Some(rivals.theirs));
}

#[test]
fn an_attempt_that_hangs_is_waited_for_as_long_as_the_second_connection_took() {
    let mut rivals = Rivals::new();
    rivals.second_up();
    rivals.shell.pass(TAKES - Duration::from_millis(1));
    assert_eq!(rivals.made_for(), None);
    rivals.shell.pass(Duration::from_millis(1));
    assert_eq!(rivals.made_for(), Some(rivals.theirs));
    // What was asked for stays there.
    rivals.own_up(1);
    assert_eq!(rivals.made_for(), None);
}

#[test]
fn a_second_connection_that_is_lost_while_it_waits_ends_its_proof() {
    let mut rivals = Rivals::new();
    let Some(Action::Dial { session, .. }) = rivals.shell.told.front().cloned() else { panic!() };
    rivals.second_up();
    rivals.shell.tell(|router, now| router.session_down(session, Reason::ConnectionLost, now));
    let reason = Reason::ConnectionLost;
    let refused =
        Action::ProofRefused { session: Some(rivals.theirs), host: Some(domain("b2.test")), reason };
    assert!(rivals.shell.told.contains(&refused), "{:?}", rivals.shell.told);
    rivals.shell.pass(seconds(60));
    assert_eq!(rivals.made_for(), None);
}
