//! An impaired network path, of datagrams on loopback: a fixed delay each way and independent, seeded losses; on demand
//! a bottleneck with a queue, which drops what finds it full.
//!
//! Kernels in containers often lack netem, and the demo needs no root. Each direction has two threads: one receives and
//! notes when a datagram is due, the other sleeps until then and sends it. As every datagram is delayed by the same
//! time behind the bottleneck, the first received is the first due: nothing is reordered except by a loss. Threads instead of tasks,
//! because a sleeping thread wakes within a tenth of a millisecond and tokio's timer within one, and because
//! the path must not wait for the relays that it joins.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::rng::Rng;

/// Datagrams on their way in one direction; beyond, the path drops like a router whose queue is full.
const IN_FLIGHT_MAX: usize = 65_536;
/// How often a receiving thread looks whether the path has ended.
const STOP_CHECK: Duration = Duration::from_millis(50);
const DATAGRAM_BYTES_MAX: usize = 65_536;

/// A path from whoever sends to [`Path::address`] to the target, and back. Ends when dropped.
pub struct Path {
    address: SocketAddr,
    far_address: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// The probability of a loss, as the bits of a double.
    loss: AtomicU64,
    forwarded: AtomicU64,
    lost: AtomicU64,
    crowded: AtomicU64,
    overflowed: AtomicU64,
    /// Octets a second that the bottleneck of each direction lets through; 0: it lets everything through at once.
    rate: AtomicU64,
    /// How long its queue takes to empty when full, in nanoseconds.
    queue: AtomicU64,
    /// Who dials: the source of the latest datagram.
    dialler: Mutex<Option<SocketAddr>>,
}

/// Datagrams in both directions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sent on.
    pub forwarded: u64,
    /// Dropped on purpose.
    pub lost: u64,
    /// Dropped because the queue of the bottleneck was full.
    pub crowded: u64,
    /// Dropped because more than `IN_FLIGHT_MAX` were on their way: a run in which this happens shows nothing.
    pub overflowed: u64,
}

struct Datagram {
    due: Instant,
    bytes: Box<[u8]>,
}

impl Path {
    /// Open the path to `target`, without losses at first. Each way takes `one_way`.
    ///
    /// # Errors
    /// If loopback sockets or threads are not to be had.
    pub fn open(target: SocketAddr, one_way: Duration, seed: u64) -> io::Result<Self> {
        let front = Arc::new(UdpSocket::bind(("127.0.0.1", 0))?);
        let back = Arc::new(UdpSocket::bind(("127.0.0.1", 0))?);
        back.connect(target)?;
        let shared = Arc::new(Shared::default());
        let mut path = Self {
            address: front.local_addr()?,
            far_address: back.local_addr()?,
            shared,
            threads: Vec::new(),
        };
        path.join(&front, &back, one_way, Rng::new(seed), |socket, bytes, _| socket.send(bytes))?;
        // A seed of its own for the way back, or both ways would lose the same datagrams of their sequence.
        path.join(&back, &front, one_way, Rng::new(!seed), |socket, bytes, shared| {
            match *shared.dialler.lock().unwrap_or_else(PoisonError::into_inner) {
                Some(dialler) => socket.send_to(bytes, dialler),
                None => Ok(0),
            }
        })?;
        Ok(path)
    }

    /// Start the two threads of one direction.
    fn join(
        &mut self,
        from: &Arc<UdpSocket>,
        to: &Arc<UdpSocket>,
        one_way: Duration,
        rng: Rng,
        send: fn(&UdpSocket, &[u8], &Shared) -> io::Result<usize>,
    ) -> io::Result<()> {
        from.set_read_timeout(Some(STOP_CHECK))?;
        let (queue, due) = sync_channel(IN_FLIGHT_MAX);
        let (shared, from, to) = (Arc::clone(&self.shared), Arc::clone(from), Arc::clone(to));
        let receiving = Arc::clone(&shared);
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(name.to_owned()).spawn(run)
        };
        self.threads
            .push(spawn("demo-path-in", Box::new(move || receive(&receiving, &from, one_way, rng, &queue)))?);
        self.threads.push(spawn("demo-path-out", Box::new(move || deliver(&shared, &to, &due, send)))?);
        Ok(())
    }

    /// Where the dialling side sends its datagrams.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the target sees the dialling side.
    #[must_use]
    pub fn far_address(&self) -> SocketAddr {
        self.far_address
    }

    /// From now on lose each datagram with this probability (0 to 1).
    pub fn set_loss(&self, probability: f64) {
        self.shared.loss.store(probability.to_bits(), Ordering::Relaxed);
    }

    /// From now on let so many octets a second through, each way, with a queue that takes `queue` to empty when full.
    pub fn set_bottleneck(&self, rate: u64, queue: Duration) {
        self.shared.queue.store(u64::try_from(queue.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.shared.rate.store(rate, Ordering::Relaxed);
    }

    /// What has happened to datagrams so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            forwarded: read(&self.shared.forwarded),
            lost: read(&self.shared.lost),
            crowded: read(&self.shared.crowded),
            overflowed: read(&self.shared.overflowed),
        }
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A thread that panicked has nothing left to end.
            drop(thread.join());
        }
    }
}

impl Shared {
    /// When a datagram of this length is through a bottleneck that is busy until `idle_from`; `None`: its queue is full.
    fn through_bottleneck(&self, length: usize, now: Instant, idle_from: Instant) -> Option<Instant> {
        let rate = self.rate.load(Ordering::Relaxed);
        if rate == 0 {
            return Some(now);
        }
        let starts = now.max(idle_from);
        let full = Duration::from_nanos(self.queue.load(Ordering::Relaxed));
        (starts - now <= full).then(|| starts + Duration::from_secs_f64(length as f64 / rate as f64))
    }
}

/// Receive until the path ends; the sending thread ends when the queue's sender is dropped with this function.
fn receive(
    shared: &Shared,
    socket: &UdpSocket,
    one_way: Duration,
    mut rng: Rng,
    queue: &SyncSender<Datagram>,
) {
    let (mut buffer, mut idle_from) = (vec![0; DATAGRAM_BYTES_MAX], Instant::now());
    while !shared.stop.load(Ordering::Relaxed) {
        // An error is a time-out, or the ICMP answer to a datagram for a relay that has gone: nothing to forward.
        let Ok((length, source)) = socket.recv_from(&mut buffer) else { continue };
        let now = Instant::now();
        if socket.peer_addr().is_err() {
            *shared.dialler.lock().unwrap_or_else(PoisonError::into_inner) = Some(source);
        }
        if rng.chance(f64::from_bits(shared.loss.load(Ordering::Relaxed))) {
            shared.lost.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let Some(through) = shared.through_bottleneck(length, now, idle_from) else {
            shared.crowded.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        idle_from = through;
        let due = through + one_way;
        match queue.try_send(Datagram { due, bytes: buffer[..length].into() }) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                shared.overflowed.fetch_add(1, Ordering::Relaxed);
            }
            Err(TrySendError::Disconnected(_)) => return,
        }
    }
}

fn deliver(
    shared: &Shared,
    socket: &UdpSocket,
    due: &Receiver<Datagram>,
    send: fn(&UdpSocket, &[u8], &Shared) -> io::Result<usize>,
) {
    while let Ok(datagram) = due.recv() {
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        std::thread::sleep(datagram.due.saturating_duration_since(Instant::now()));
        // A refused datagram is a lost one: that is what datagrams are like, and the relay's loss detection knows.
        if send(socket, &datagram.bytes, shared).is_ok() {
            shared.forwarded.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A path to an echo, and a socket that sends into it.
    fn echo_path(one_way: Duration, seed: u64) -> (Path, UdpSocket) {
        let echo = UdpSocket::bind("127.0.0.1:0").unwrap();
        let path = Path::open(echo.local_addr().unwrap(), one_way, seed).unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok((length, source)) = echo.recv_from(&mut buffer) {
                echo.send_to(&buffer[..length], source).unwrap();
                if buffer[..length] == *b"end" {
                    return;
                }
            }
        });
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(path.address()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        (path, socket)
    }

    /// Send `count` numbered datagrams and say which came back, in order of arrival.
    fn survivors(path: &Path, socket: &UdpSocket, count: u32) -> Vec<u32> {
        let receiving = socket.try_clone().unwrap();
        // Read from the start: the kernel's receive buffer must not lose what the path would not.
        let receiver = std::thread::spawn(move || {
            let mut seen = Vec::new();
            loop {
                let mut buffer = [0; 16];
                let length = receiving.recv(&mut buffer).unwrap();
                match <[u8; 4]>::try_from(&buffer[..length]) {
                    Ok(number) => seen.push(u32::from_be_bytes(number)),
                    Err(_) => return seen,
                }
            }
        });
        for number in 0..count {
            socket.send(&number.to_be_bytes()).unwrap();
            std::thread::sleep(Duration::from_micros(20));
        }
        path.set_loss(0.0);
        socket.send(b"end").unwrap();
        receiver.join().unwrap()
    }

    #[test]
    fn a_round_trip_takes_the_delay_twice_and_hardly_more() {
        let (_path, socket) = echo_path(Duration::from_millis(20), 1);
        let mut excess: Vec<_> = (0..10)
            .map(|_| {
                let sent = Instant::now();
                socket.send(b"ping").unwrap();
                socket.recv(&mut [0; 16]).unwrap();
                sent.elapsed().checked_sub(Duration::from_millis(40)).expect("no datagram comes early")
            })
            .collect();
        excess.sort_unstable();
        // The best of ten shows the path's own precision, whatever else the machine does.
        assert!(excess[0] < Duration::from_millis(1), "{excess:?}");
    }

    #[test]
    fn a_bottleneck_lets_its_rate_through_and_drops_what_finds_its_queue_full() {
        let shared = Shared::default();
        let begin = Instant::now();
        assert_eq!(shared.through_bottleneck(1_000, begin, begin), Some(begin));
        shared.rate.store(1_000_000, Ordering::Relaxed);
        shared.queue.store(2_500_000, Ordering::Relaxed);
        let mut idle_from = begin;
        // A millisecond each, and 2.5 ms of queue: the one in the bottleneck, and those that wait less than that.
        for passed in 1..=3 {
            idle_from = shared.through_bottleneck(1_000, begin, idle_from).unwrap();
            assert_eq!(idle_from, begin + Duration::from_millis(passed));
        }
        assert_eq!(shared.through_bottleneck(1_000, begin, idle_from), None);
        let later = begin + Duration::from_millis(10);
        assert_eq!(
            shared.through_bottleneck(1_000, later, idle_from),
            Some(later + Duration::from_millis(1))
        );
    }

    #[test]
    fn a_seed_loses_the_same_datagrams_again_in_the_share_asked_for_and_keeps_the_order() {
        let run = |seed| {
            let (path, socket) = echo_path(Duration::from_millis(2), seed);
            path.set_loss(0.1);
            let seen = survivors(&path, &socket, 2_000);
            (seen, path.counts())
        };
        let (seen, counts) = run(42);
        assert!(seen.is_sorted());
        assert_eq!(counts.overflowed, 0);
        // Both ways lose a tenth: 19% of 2,000 round trips.
        assert!((280..480).contains(&(2_000 - seen.len())), "{} of 2,000 came back", seen.len());
        assert_eq!(counts.lost, 2_000 - seen.len() as u64);
        // The last ones were still on their way when losses were turned off: only the first thousand are the seed's.
        assert_eq!(run(42).0[..1_000], seen[..1_000]);
        assert_ne!(run(43).0[..1_000], seen[..1_000]);
    }
}
