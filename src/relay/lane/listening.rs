//! Acknowledgements are heard where nothing else is: on a lane that isn't read for a while, and on one that we have ended because
//! there was no room. What was sent there is in our custody until then, and may be what takes the room for which its other direction
//! waits: without them neither would ever go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Buf as _;

use super::ending::shut;
use super::{Ended, Lane};
use crate::proto::stream::Event;
use crate::proto::stream_management::element::read_answer;
use crate::relay::io::{LAST_WORDS, Receive};
use crate::relay::outlet::TURN_BYTES;
use crate::relay::read_buffer::Ear;
use crate::xmpp::framer::{FrameKind, Progress};

/// Lanes that are listened to at once, over all streams of the process. Each is read ahead by no more than its other end may send before
/// that.
const LISTENING_MAX: usize = 64;

static LISTENING: AtomicUsize = AtomicUsize::new(0);

/// The right to read ahead.
struct Permit;

impl Permit {
    fn take() -> Option<Self> {
        let others = LISTENING.fetch_add(1, Ordering::Relaxed);
        // One too many is given back where this drops it.
        let permit = Self;
        (others < LISTENING_MAX).then_some(permit)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        LISTENING.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Lane {
    /// The lane isn't read: read ahead of that as far as an acknowledgement can be behind what the other end has said before, and take
    /// those that come. Resolves if one of them ends the stream.
    pub(super) async fn listen<R: Receive>(&mut self, ear: &mut Ear<R>) -> Ended {
        // Whatever keeps us from that, the reader finds too.
        let in_vain = std::future::pending();
        let Some(_permit) = self.inbound.is_some().then(Permit::take).flatten() else { return in_vain.await };
        let window = usize::try_from(self.hub.limits.lane_window).unwrap_or(usize::MAX);
        let most = window.saturating_add(TURN_BYTES);
        let mut scout = self.reading.scout(self.hub.xml_limits());
        let (Ear { receive, buffer }, mut at) = (ear, 0);
        loop {
            match scout.next(&buffer[at..]) {
                Ok(Progress::Skip(len)) => at += len,
                Ok(Progress::Frame(frame)) => {
                    let octets = &buffer[at..at + frame.len];
                    if frame.kind == FrameKind::Element
                        && let Some(answer) = read_answer(octets)
                    {
                        match self.handle(Event::Element(&answer)) {
                            Ok(None) => {}
                            Ok(Some(ended)) => return ended,
                            Err(violation) => return Ended::Violated(violation),
                        }
                        // What comes next in turn isn't what follows it.
                        self.heard_answer = false;
                    }
                    at += frame.len;
                    self.listened(at);
                }
                Ok(Progress::More) if buffer.len() < most => {
                    if !matches!(receive.read(buffer).await, Ok(1..)) {
                        return in_vain.await;
                    }
                }
                Ok(Progress::More) | Err(_) => return in_vain.await,
            }
        }
    }

    /// We have ended the stream because there was no room. The other end says last how much of what we sent it has handled; nothing
    /// else of what it says is.
    pub(super) async fn hear_out<R: Receive>(&mut self, ear: &mut Ear<R>) {
        if self.inbound.is_none() || self.sending.unacknowledged() == 0 {
            return;
        }
        let (hub, mailbox) = (Arc::clone(&self.hub), Arc::clone(&self.mailbox));
        // It has said nothing else that we would wait for.
        tokio::select! {
            biased;
            () = self.hear_answers(ear) => {}
            () = tokio::time::sleep(LAST_WORDS) => {}
            () = shut(&hub, &mailbox) => {}
        }
    }

    async fn hear_answers<R: Receive>(&mut self, Ear { receive, buffer }: &mut Ear<R>) {
        let mut heard_answer = false;
        loop {
            let Ok(progress) = self.framer().next(buffer) else { return };
            let len = match progress {
                Progress::Skip(len) => len,
                Progress::Frame(frame) => {
                    match (frame.kind, read_answer(&buffer[..frame.len])) {
                        (FrameKind::End, _) => return self.said_all = heard_answer,
                        (FrameKind::Element, Some(_)) if self.has_listened(frame.len) => {
                            // What follows it may have come much later.
                            heard_answer = self.is_relay();
                        }
                        (FrameKind::Element, Some(answer)) => {
                            // For the stream's machine it is over.
                            let h = answer.attribute("h").and_then(|h| h.parse().ok());
                            let Some(h) = h else { return };
                            if self.sending.acknowledged(h, &self.mailbox).is_err() {
                                return;
                            }
                            heard_answer = true;
                        }
                        _ => heard_answer = false,
                    }
                    frame.len
                }
                Progress::More => {
                    if !matches!(receive.read(buffer).await, Ok(1..)) {
                        return;
                    }
                    heard_answer &= self.is_relay();
                    // There may be much of it, and others have their turn.
                    tokio::task::yield_now().await;
                    continue;
                }
            };
            buffer.advance(len);
            self.dealt_with(len);
        }
    }
}
