//! Finds a domain's peers: the look-ups, side by side and within a bound, and their answers kept for as long as they hold.
//!
//! Beside DNS the domain may be asked over HTTPS ([`super::host_meta`]). That never holds up a way that DNS has told, but for a
//! moment and if the operator prefers it: what isn't answered then goes on, and counts as soon as it is there.

mod records;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_resolver::proto::rr::{Name, RecordType};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::host_meta::{Asker, Asking, HostMetaSource, QUESTIONS_AT_ONCE};
use super::question::Questions;
use super::upstream::{DnsError, Upstream};
use crate::proto::discovery::found::{Answer, Found, Rules, VALID_MAX, conclude};
use crate::proto::discovery::plan::{Plan, plan};
use crate::proto::discovery::refusal::refuse_domain;
use crate::proto::discovery::{AddressAnswer, HostMeta, SrvAnswer, SrvAnswers, SrvName, SrvRecord};
use crate::reason::Reason;
use crate::xmpp::domain::Domain;
pub use records::Records;

/// Domains that are looked up at once. The others wait, within the same bound.
const DOMAINS_AT_ONCE: usize = 64;
/// Domains whose answers are kept.
const KNOWN_MAX: usize = 4096;
/// When one name has told a way, how long the others may still take: one that swallows questions delays nothing else.
const SRV_GRACE: Duration = Duration::from_secs(1);
/// The same for addresses. RFC 8305 section 3 waits 50 ms for the AAAA records; here they can't be added later, and a
/// session lasts for hours.
const ADDRESS_GRACE: Duration = Duration::from_millis(500);

/// When DNS has told a way, how long a question for the host-meta document may still take before that way is used.
const HOST_META_GRACE: Duration = Duration::from_millis(500);

/// How peers are looked for.
#[derive(Debug, Clone)]
pub struct FinderSettings {
    /// The DNS servers; empty: the system's.
    pub servers: Vec<SocketAddr>,
    /// Whether private names and addresses may be found.
    pub allow_private: bool,
    /// Whether UDP port 443 is tried where no record speaks of QUIC.
    pub quic_443: bool,
    /// Where this relay listens: never dialled. A listener on all addresses stands for loopback; whoever knows the
    /// machine's other addresses adds them with its port.
    pub own: Vec<SocketAddr>,
    /// Bound of all look-ups for one domain together.
    pub bound: Duration,
    /// Where domains' host-meta documents come from; `None`: they are never asked for.
    pub host_meta: Option<HostMetaSource>,
}

/// Each name that was asked for, and what was answered, for people.
pub type Heard = Vec<(String, String)>;

/// What is known of one domain: behind a lock of its own, so that whoever asks while it is looked up waits for the one
/// answer.
type Slot = Arc<tokio::sync::Mutex<Known>>;

#[derive(Debug, Default)]
struct Known {
    found: Option<(Arc<Found>, Instant)>,
    document: Asking,
}

impl Known {
    /// What was found, as long as it holds.
    fn valid(&self, now: Instant) -> Option<&Arc<Found>> {
        self.found.as_ref().filter(|(_, until)| now < *until).map(|(found, _)| found)
    }
}

/// Finds peers. To be used on one runtime: connections to DNS servers live there.
pub struct Finder {
    questions: Questions,
    settings: Arc<FinderSettings>,
    asker: Option<Asker>,
    known: Mutex<HashMap<Domain, Slot>>,
    places: Semaphore,
}

impl std::fmt::Debug for Finder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Finder").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Finder {
    /// Nothing is asked yet.
    ///
    /// # Errors
    /// [`DnsError`] if no server is named and the system's are not known.
    pub fn new(settings: FinderSettings) -> Result<Self, DnsError> {
        // Time for an answer over UDP, for one over TCP if that fails, and then for the addresses.
        let questions = Questions::new(Upstream::new(&settings.servers, settings.bound / 4)?);
        let settings = Arc::new(settings);
        let asker = |source: &HostMetaSource| Asker {
            source: source.clone(),
            questions: questions.clone(),
            settings: Arc::clone(&settings),
            places: Arc::new(Semaphore::new(QUESTIONS_AT_ONCE)),
        };
        Ok(Self {
            asker: settings.host_meta.as_ref().filter(|source| source.when != HostMeta::Never).map(asker),
            questions,
            settings,
            known: Mutex::default(),
            places: Semaphore::new(DOMAINS_AT_ONCE),
        })
    }

    /// The ways to `domain`, or why there is none, within the bound. What was found a moment ago is not asked for again:
    /// good answers hold for their TTL (a minute to an hour), failures for two seconds, and all who ask for a domain at
    /// once share one round of look-ups.
    ///
    /// `seed`: which of more records than are dialled are taken.
    pub async fn find(&self, domain: &Domain, seed: u64) -> Arc<Found> {
        self.find_telling(domain, seed, &mut Heard::new()).await
    }

    /// The same. What is asked for now is added to `heard`, and kept nowhere: what was found a moment ago says nothing about it.
    pub async fn find_telling(&self, domain: &Domain, seed: u64, heard: &mut Heard) -> Arc<Found> {
        if let Err(reason) = refuse_domain(domain, self.settings.allow_private) {
            return Arc::new(Found::failed(reason));
        }
        let bound = Instant::now() + self.settings.bound;
        let slot = self.slot(domain);
        let found = timeout_at(bound, async {
            let mut slot = slot.lock().await;
            if let Some(found) = slot.valid(Instant::now()) {
                return Arc::clone(found);
            }
            let place = timeout_at(bound, self.places.acquire()).await;
            let found = match place {
                Ok(Ok(_place)) => {
                    Arc::new(self.look_up(domain, seed, bound, &mut slot.document, heard).await)
                }
                Ok(Err(_)) | Err(_) => Arc::new(Found::failed(Reason::DnsTimeout)),
            };
            slot.found = Some((Arc::clone(&found), Instant::now() + found.valid));
            found
        });
        // Whoever waited for another's look-up may run out of time a moment before it ends.
        found.await.unwrap_or_else(|_| Arc::new(Found::failed(Reason::DnsTimeout)))
    }

    fn slot(&self, domain: &Domain) -> Slot {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = known.get(domain) {
            return Arc::clone(slot);
        }
        if known.len() >= KNOWN_MAX {
            let now = Instant::now();
            let is_busy = |slot: &Slot| Arc::strong_count(slot) > 1;
            let is_valid = |slot: &Slot| {
                slot.try_lock().map_or(true, |kept| kept.valid(now).is_some() || kept.document.is_needed(now))
            };
            known.retain(|_, slot| is_busy(slot) || is_valid(slot));
            // Asking again is cheaper than choosing whom to forget.
            if known.len() >= KNOWN_MAX {
                known.retain(|_, slot| is_busy(slot));
            }
        }
        Arc::clone(known.entry(domain.clone()).or_default())
    }

    async fn look_up(
        &self,
        domain: &Domain,
        seed: u64,
        bound: Instant,
        document: &mut Asking,
        heard: &mut Heard,
    ) -> Found {
        let by_dns = self.by_dns(domain, seed, bound, heard);
        let Some(asker) = &self.asker else { return by_dns.await };
        if asker.source.when == HostMeta::Prefer {
            document.begin(asker, domain, seed, bound);
            return self.beside_dns(asker, by_dns, seed, bound, document).await;
        }
        let found = by_dns.await;
        if leaves_open(&found) {
            document.begin(asker, domain, seed, bound);
            document.settle(asker, seed, patience(&found, bound)).await;
        }
        self.with_document(asker, found, document)
    }

    /// Ask DNS beside the domain's web server, which is being asked. Links of a document make DNS unnecessary.
    async fn beside_dns(
        &self,
        asker: &Asker,
        by_dns: impl Future<Output = Found>,
        seed: u64,
        bound: Instant,
        document: &mut Asking,
    ) -> Found {
        tokio::pin!(by_dns);
        let first = tokio::select! {
            biased;
            () = document.settle(asker, seed, bound) => None,
            found = &mut by_dns => Some(found),
        };
        let found = match first {
            None => {
                let told = self.with_document(asker, Found::failed(Reason::NoRecords), document);
                if !told.ways().is_empty() {
                    return told;
                }
                by_dns.await
            }
            Some(found) => {
                document.settle(asker, seed, patience(&found, bound)).await;
                found
            }
        };
        self.with_document(asker, found, document)
    }

    /// `found`, with what is known of the domain's document.
    fn with_document(&self, asker: &Asker, found: Found, document: &Asking) -> Found {
        let rules = Rules { allow_private: self.settings.allow_private, own: &self.settings.own };
        let found = match (document.standing.counting(Instant::now().into_std()), document.standing.failed())
        {
            (Some(counting), _) => found.with_document(&counting, asker.source.when, rules),
            (None, Some(reason)) => found.without_document(reason),
            (None, None) => found,
        };
        if document.is_under_way() { found.awaiting_document() } else { found }
    }

    async fn by_dns(&self, domain: &Domain, seed: u64, bound: Instant, heard: &mut Heard) -> Found {
        let now = Instant::now();
        let mut ttl = VALID_MAX;
        // Addresses are asked for after this, and need time, too.
        let srv = self.srv(domain, now + bound.saturating_duration_since(now).mul_f32(0.6), &mut ttl).await;
        let plan = plan(domain, &srv, self.settings.quic_443, seed);
        let addresses = match &plan {
            Plan::Candidates(candidates) => {
                let mut hosts: Vec<String> = Vec::with_capacity(candidates.len());
                for candidate in candidates {
                    if !hosts.contains(&candidate.host) && candidate.host.parse::<IpAddr>().is_err() {
                        hosts.push(candidate.host.clone());
                    }
                }
                addresses(&self.questions, hosts, bound, &mut ttl).await
            }
            Plan::Failed(_) => HashMap::new(),
        };
        let rules = Rules { allow_private: self.settings.allow_private, own: &self.settings.own };
        tell(domain, &srv, &addresses, heard);
        conclude(&srv, plan, &addresses, rules, ttl)
    }

    /// The answers of the four SRV names. One that isn't there in time has failed.
    async fn srv(&self, domain: &Domain, bound: Instant, ttl: &mut Duration) -> SrvAnswers {
        let mut answers = SrvAnswers::all(&SrvAnswer::Failed(Reason::DnsTimeout));
        let mut asked = JoinSet::new();
        for name in SrvName::ALL {
            let text = format!("{}.{}.", name.labels(), domain.to_ascii());
            let Ok(full) = Name::from_ascii(&text) else {
                // With its labels the name is too long for DNS: nobody can have put records there.
                answers.set(name, SrvAnswer::Nothing);
                continue;
            };
            let questions = self.questions.clone();
            asked.spawn(async move { (name, questions.ask(full, RecordType::SRV).await) });
        }
        gather(asked, bound, SRV_GRACE, |(name, said)| {
            let answer = said.into_srv(ttl);
            let is_way = matches!(answer, SrvAnswer::Records(_));
            answers.set(name, answer);
            is_way
        })
        .await;
        answers
    }
}

/// Put down what was answered, for people.
fn tell(domain: &Domain, srv: &SrvAnswers, addresses: &HashMap<String, AddressAnswer>, heard: &mut Heard) {
    let records = SrvName::ALL.map(|name| {
        let answer = match srv.get(name) {
            SrvAnswer::Records(records) => {
                let record = |record: &SrvRecord| {
                    let SrvRecord { priority, weight, port, target } = record;
                    format!("SRV {priority} {weight} {port} {target}")
                };
                records.iter().map(record).collect::<Vec<_>>().join(", ")
            }
            SrvAnswer::NotOffered => "SRV with the target . (not offered)".to_owned(),
            SrvAnswer::Nothing => "no SRV record".to_owned(),
            SrvAnswer::Failed(reason) => reason.to_string(),
        };
        (format!("{}.{}", name.labels(), domain.to_ascii()), answer)
    });
    let hosts = addresses.iter().map(|(host, answer)| {
        let found: Vec<String> = answer.addresses.iter().map(ToString::to_string).collect();
        let failed = answer.failed.map(|reason| reason.to_string());
        let all: Vec<String> = found.into_iter().chain(failed).collect();
        (host.clone(), if all.is_empty() { "no address".to_owned() } else { all.join(", ") })
    });
    heard.extend(records.into_iter().chain(hosts));
}

/// Whether DNS leaves it to others to say where the domain is: no SRV record of it leads anywhere, and none says that there is
/// nothing. A domain without any address has no web server to ask, either.
fn leaves_open(found: &Found) -> bool {
    match found.answer {
        Answer::Ways(_) => !found.is_named(),
        Answer::Nothing => false,
        Answer::Failed(reason) => reason != Reason::ServiceNotOffered,
    }
}

/// Until when a question for the document is waited for.
fn patience(found: &Found, bound: Instant) -> Instant {
    if found.ways().is_empty() { bound } else { bound.min(Instant::now() + HOST_META_GRACE) }
}

/// The addresses of `hosts`. A look-up that isn't there in time has failed.
pub(super) async fn addresses(
    questions: &Questions,
    hosts: Vec<String>,
    bound: Instant,
    ttl: &mut Duration,
) -> HashMap<String, AddressAnswer> {
    let mut answers: HashMap<String, AddressAnswer> = HashMap::new();
    let mut missing: HashMap<String, u8> = HashMap::new();
    let mut asked = JoinSet::new();
    for host in hosts {
        let Ok(name) = Name::from_ascii(format!("{host}.")) else {
            answers.entry(host).or_default().failed = Some(Reason::DnsFailed);
            continue;
        };
        for kind in [RecordType::AAAA, RecordType::A] {
            let (questions, name, host) = (questions.clone(), name.clone(), host.clone());
            *missing.entry(host.clone()).or_default() += 1;
            asked.spawn(async move { (host, questions.ask(name, kind).await) });
        }
    }
    gather(asked, bound, ADDRESS_GRACE, |(host, said)| {
        if let Some(count) = missing.get_mut(&host) {
            *count -= 1;
        }
        let answer = answers.entry(host).or_default();
        said.add_to(answer, ttl);
        !answer.addresses.is_empty()
    })
    .await;
    for (host, _) in missing.into_iter().filter(|(_, count)| *count > 0) {
        answers.entry(host).or_default().failed.get_or_insert(Reason::DnsTimeout);
    }
    answers
}

/// Take answers as they come, until all are there or `bound`. When `take` has said that one will do, the others have only
/// `grace` left.
async fn gather<T: 'static>(
    mut asked: JoinSet<T>,
    mut bound: Instant,
    grace: Duration,
    mut take: impl FnMut(T) -> bool,
) {
    while let Ok(Some(answer)) = timeout_at(bound, asked.join_next()).await {
        // A look-up that panicked counts as one without an answer.
        if let Ok(answer) = answer
            && take(answer)
        {
            bound = bound.min(Instant::now() + grace);
        }
    }
}

#[cfg(test)]
mod tests;
