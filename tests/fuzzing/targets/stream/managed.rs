//! Stream management (XEP-0198) at both ends: nothing is counted before it was agreed on, each question has one answer, and
//! a number that is told on is the one that came.

use std::time::Duration;

use fedmux::proto::stream::initiating::{self, Manage, Wants};
use fedmux::proto::stream::{Managed, receiving};
use fedmux::proto::stream_management::element::{ID_BYTES_MAX, Management, write_enabled};
use fedmux::xmpp::element::Element;
use fedmux::xmpp::namespace as ns;

use super::Happening;

/// The id of the only stream that can be gone on with.
const RESUMABLE: &str = "s";

/// What an element of stream management says; `None` for what is none, or makes no sense.
fn management(happening: &Happening) -> Option<Management> {
    Management::parse(happening.element()?).ok()?
}

fn said(children: &[Element]) -> impl Iterator<Item = (&Element, Management)> {
    let ours = children.iter().filter(|child| child.ns() == ns::STREAM_MANAGEMENT);
    ours.map(|child| {
        (child, Management::parse(child).expect("ours makes sense").expect("it is of this kind"))
    })
}

/// How far the receiving entity has come.
#[derive(Debug, Default, PartialEq)]
enum Accepting {
    #[default]
    Off,
    Offered,
    Resuming(String),
    On,
}

/// The receiving entity.
#[derive(Debug, Default)]
pub(super) struct Receiving {
    at: Accepting,
    /// `<enable/>` came, and the shell has not answered it.
    enabling: Option<bool>,
    question: Option<Option<u32>>,
}

impl Receiving {
    pub(super) fn authenticated(&mut self, offered: bool) {
        self.at = if offered { Accepting::Offered } else { Accepting::Off };
    }

    pub(super) fn is_resuming(&self) -> bool {
        matches!(self.at, Accepting::Resuming(_))
    }

    pub(super) fn said(&mut self, children: &[Element], happening: &Happening) {
        let mut answers = 0;
        for (element, said) in said(children) {
            answers += 1;
            match (said, happening, &self.at) {
                (
                    Management::Resumed { h },
                    Happening::Resumption(Some(handled)),
                    Accepting::Resuming(id),
                ) => {
                    assert_eq!((h, element.attribute("previd")), (*handled, Some(id.as_str())));
                    self.at = Accepting::On;
                }
                (Management::Failed { .. }, Happening::Resumption(None), Accepting::Resuming(_)) => {
                    self.at = Accepting::Offered;
                }
                (Management::Failed { .. }, _, at) => {
                    let asked = management(happening);
                    let asked = matches!(asked, Some(Management::Enable { .. } | Management::Resume { .. }));
                    assert!(asked && *at != Accepting::Offered, "{happening:?} {at:?}");
                }
                other => panic!("{other:?}"),
            }
        }
        let due = matches!(happening, Happening::Resumption(_)) && self.is_resuming();
        assert!(answers <= 1 && !due, "{happening:?} has {answers} answers");
    }

    pub(super) fn told(&mut self, told: &Managed, happening: &Happening) {
        let came = management(happening).expect("nothing of the kind came");
        match (told, came) {
            (Managed::Enable { resume }, Management::Enable { resume: wanted }) => {
                assert!(self.at == Accepting::Offered && *resume == wanted);
                self.at = Accepting::On;
                self.enabling = Some(wanted);
            }
            (Managed::Resume { previd, h }, Management::Resume { previd: id, h: handled }) => {
                assert!(self.at == Accepting::Offered && (previd, *h) == (&id, handled));
                assert!(id.len() <= ID_BYTES_MAX);
                self.question = Some((id == RESUMABLE).then_some(handled));
                self.at = Accepting::Resuming(id);
            }
            (Managed::Asked, Management::Request) => assert_eq!(self.at, Accepting::On),
            (Managed::Acknowledged { h }, Management::Answer { h: handled }) => {
                assert_eq!((&self.at, *h), (&Accepting::On, handled));
            }
            other => panic!("{other:?}"),
        }
    }

    /// What the shell says to `<enable/>`.
    pub(super) fn answer(&mut self) -> String {
        let mut octets = String::new();
        if let Some(resume) = self.enabling.take() {
            write_enabled(&mut octets, resume.then_some((RESUMABLE, Duration::from_secs(300))));
        }
        octets
    }

    pub(super) fn resumption(&mut self) -> Option<Option<u32>> {
        self.question.take()
    }

    pub(super) fn agree(&self, machine: &receiving::Receiving) {
        let may = matches!(self.at, Accepting::Offered | Accepting::Resuming(_));
        assert_eq!((machine.is_resuming(), machine.may_be_managed()), (self.is_resuming(), may));
    }
}

/// How far the initiating entity has come.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Asking {
    Off,
    Enabling,
    Resuming,
    On,
}

/// The initiating entity.
#[derive(Debug)]
pub(super) struct Initiating {
    manage: Manage,
    at: Asking,
    /// It was turned down: it isn't asked for again.
    refused: bool,
}

impl Initiating {
    pub(super) fn new(wants: &Wants) -> Self {
        Self { manage: wants.manage.clone(), at: Asking::Off, refused: false }
    }

    pub(super) fn waits(&self) -> bool {
        matches!(self.at, Asking::Enabling | Asking::Resuming)
    }

    /// `offered`: it is known since this event that stream management is there.
    pub(super) fn said(&mut self, children: &[Element], offered: bool, happening: Option<&Happening>) {
        let before = self.at;
        for (_, said) in said(children) {
            assert!(!self.refused);
            self.at = match (said, before, &self.manage) {
                (Management::Enable { resume: true }, Asking::Off, Manage::Enable) if offered => {
                    Asking::Enabling
                }
                (
                    Management::Resume { previd, h },
                    Asking::Off,
                    Manage::Resume { previd: id, h: handled },
                ) if offered => {
                    assert_eq!((&previd, h), (id, *handled));
                    Asking::Resuming
                }
                (Management::Enable { resume: true }, Asking::Resuming, _) => {
                    let came = happening.and_then(management);
                    assert!(matches!(came, Some(Management::Failed { .. })));
                    Asking::Enabling
                }
                other => panic!("{other:?}"),
            };
        }
        assert!(!(offered && self.at == Asking::Off && !self.refused), "it was offered");
    }

    pub(super) fn told(&mut self, told: &Managed, happening: &Happening) {
        let came = management(happening).expect("nothing of the kind came");
        self.at = match (told, came, self.at) {
            (
                Managed::Enabled { id, max },
                Management::Enabled { id: their, max: most },
                Asking::Enabling,
            ) => {
                assert_eq!((id, *max), (&their, most));
                assert!(their.is_none_or(|id| id.len() <= ID_BYTES_MAX));
                Asking::On
            }
            (Managed::Refused, Management::Failed { .. }, Asking::Enabling) => {
                self.refused = true;
                Asking::Off
            }
            (Managed::Resumed { h }, Management::Resumed { h: handled }, Asking::Resuming) => {
                assert_eq!(*h, handled);
                Asking::On
            }
            // What was asked for instead has been said.
            (Managed::Lost { h }, Management::Failed { h: handled }, Asking::Enabling) => {
                assert_eq!(*h, handled);
                Asking::Enabling
            }
            (Managed::Asked, Management::Request, Asking::On) => Asking::On,
            (Managed::Acknowledged { h }, Management::Answer { h: handled }, Asking::On) => {
                assert_eq!(*h, handled);
                Asking::On
            }
            other => panic!("{other:?}"),
        };
    }

    /// `flows`: stanzas may follow, unless a stream is being resumed.
    pub(super) fn agree(&self, machine: &initiating::Initiating, flows: bool) {
        assert_eq!(machine.is_managed(), self.at != Asking::Off);
        assert_eq!(machine.may_send(), flows && self.at != Asking::Resuming);
    }
}
