//! Where processes find each other that only know where the first one is: it gives all the same gift, and from then on everybody
//! knows when one is gone.
//!
//! The first process keeps a connection to every other one. A frame is four bytes: a word, an exit code and a rank. Who is silent for
//! long, or closes its connection without a goodbye, is lost, and the first process tells the others.

use super::{Error, Place};
use std::fmt::{self, Display};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What all get from the first process.
pub type Gift = [u8; 128];

const GREETING: &[u8; 8] = b"scgpt-1\n";
const BEAT: u8 = 0;
const GOODBYE: u8 = 1;
const FAILED: u8 = 2;
/// How long to wait before looking again.
const PAUSE: Duration = Duration::from_millis(100);

/// How long to wait for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Until all have come.
    pub arrival: Duration,
    /// Until a silent one is lost.
    pub silence: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            arrival: Duration::from_secs(300),
            silence: Duration::from_secs(30),
        }
    }
}

/// A rank that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    pub rank: usize,
    /// What it failed with, if it could say so.
    pub code: Option<u8>,
}

impl Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.rank, self.code) {
            (rank, Some(code)) => write!(f, "rank {rank} failed with exit code {code}"),
            (rank, None) => write!(f, "rank {rank} is gone without a word"),
        }
    }
}

/// The processes that have met.
pub struct Meeting {
    links: Arc<Links>,
    listeners: Mutex<Vec<JoinHandle<()>>>,
}

/// Connections to other ranks.
struct Links {
    rank: usize,
    /// The ranks with their connections, until the goodbye.
    open: Mutex<Vec<(usize, TcpStream)>>,
    on_loss: Box<dyn Fn(Loss) + Send + Sync>,
}

impl Meeting {
    /// Meets the others at the first process, which makes the gift when all are there. If one is gone later, `on_loss` is called, on
    /// any thread and maybe more than once.
    ///
    /// # Errors
    ///
    /// If not all came in time, or those who came were not started together.
    pub fn attend(
        place: &Place,
        patience: Patience,
        gift: impl FnOnce() -> anyhow::Result<Gift>,
        on_loss: impl Fn(Loss) + Send + Sync + 'static,
    ) -> anyhow::Result<(Self, Gift)> {
        let (open, gift) = if place.rank == 0 {
            let mut guests = welcome(place, patience)?;
            let gift = gift()?;
            for (rank, stream) in &mut guests {
                stream.write_all(&gift).map_err(|_| lost(*rank))?;
            }
            (guests, gift)
        } else {
            let (stream, gift) = visit(place, patience)?;
            (vec![(0, stream)], gift)
        };
        let links = Links {
            rank: place.rank,
            open: Mutex::new(open),
            on_loss: Box::new(on_loss),
        };
        Ok((Self::begin(links, patience)?, gift))
    }

    fn begin(links: Links, patience: Patience) -> io::Result<Self> {
        let links = Arc::new(links);
        let mut listeners = Vec::new();
        for (peer, stream) in links.open.lock().expect("no thread panicked").iter() {
            stream.set_read_timeout(Some(patience.silence))?;
            let (links, peer, stream) = (links.clone(), *peer, stream.try_clone()?);
            listeners.push(thread::spawn(move || listen(&links, peer, &stream)));
        }
        let (watched, pause) = (Arc::downgrade(&links), patience.silence / 6);
        thread::spawn(move || {
            while let Some(links) = watched.upgrade() {
                links.tell([BEAT, 0], links.rank);
                drop(links);
                thread::sleep(pause);
            }
        });
        Ok(Self {
            links,
            listeners: Mutex::new(listeners),
        })
    }

    /// Waits until every rank says goodbye.
    pub fn finish(&self) {
        let is_first = self.links.rank == 0;
        if !is_first {
            self.links.part();
        }
        let listeners = std::mem::take(&mut *self.listeners.lock().expect("no thread panicked"));
        for listener in listeners {
            // A listener that panicked has nothing more to say.
            let _ = listener.join();
        }
        if is_first {
            self.links.part();
        }
    }

    /// Tells the others that this rank fails.
    pub fn fail(&self, code: u8) {
        self.links.tell([FAILED, code], self.links.rank);
    }
}

impl Links {
    fn tell(&self, word: [u8; 2], rank: usize) {
        let mut open = self.open.lock().expect("no thread panicked");
        write_all(&mut open, word, rank);
    }

    /// Nothing is said after a goodbye: what is unread when a connection closes could take the goodbye along.
    fn part(&self) {
        let mut open = self.open.lock().expect("no thread panicked");
        write_all(&mut open, [GOODBYE, 0], self.rank);
        open.clear();
    }

    fn lost(&self, loss: Loss, code: u8) {
        if self.rank == 0 {
            self.tell([FAILED, code], loss.rank);
        }
        (self.on_loss)(loss);
    }
}

/// A connection that takes no frame is for its listener to find out about.
fn write_all(open: &mut [(usize, TcpStream)], [word, code]: [u8; 2], rank: usize) {
    let [low, high, ..] = rank.to_le_bytes();
    for (_, stream) in open {
        let _ = stream.write_all(&[word, code, low, high]);
    }
}

/// Exit code of a rank that could not say one: it may go better on another node.
pub const GONE: u8 = 69;

fn listen(links: &Links, peer: usize, mut stream: &TcpStream) {
    loop {
        let mut frame = [0; 4];
        let heard = stream.read_exact(&mut frame);
        let [word, code, low, high] = frame;
        let rank = usize::from(u16::from_le_bytes([low, high]));
        match (heard, word) {
            (Ok(()), BEAT) => {}
            (Ok(()), GOODBYE) => return,
            (Ok(()), FAILED) => {
                let loss = Loss {
                    rank,
                    code: Some(code),
                };
                return links.lost(loss, code);
            }
            _ => {
                let loss = Loss {
                    rank: peer,
                    code: None,
                };
                return links.lost(loss, GONE);
            }
        }
    }
}

/// The others, once all have come.
fn welcome(place: &Place, patience: Patience) -> Result<Vec<(usize, TcpStream)>, Error> {
    let listener = bind(place.port)?;
    let end = Instant::now() + patience.arrival;
    let mut guests: Vec<(usize, TcpStream)> = Vec::new();
    while guests.len() + 1 < place.size {
        if Instant::now() > end {
            return Err(absent(place, &guests, patience));
        }
        match listener.accept() {
            Ok((stream, _)) => guests.extend(greeted(place, &guests, stream)?),
            Err(_) => thread::sleep(PAUSE),
        }
    }
    Ok(guests)
}

fn bind(port: u16) -> Result<TcpListener, Error> {
    let bound = TcpListener::bind(("::", port)).or_else(|_| TcpListener::bind(("0.0.0.0", port)));
    let waiting = bound.and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
    waiting.map_err(|error| {
        Error::Launch(format!(
            "rank 0 cannot listen at port {port} for the others ({error}): set MASTER_PORT to a free one"
        ))
    })
}

fn absent(place: &Place, guests: &[(usize, TcpStream)], patience: Patience) -> Error {
    let came = |rank: &usize| guests.iter().any(|(known, _)| known == rank);
    let missing: Vec<String> = (1..place.size)
        .filter(|rank| !came(rank))
        .map(|rank| rank.to_string())
        .collect();
    Error::Lost(format!(
        "rank 0 waited {} s at port {} for rank {}, in vain",
        patience.arrival.as_secs(),
        place.port,
        missing.join(", ")
    ))
}

/// Reads the greeting; who has none is a stranger and is sent away.
fn greeted(
    place: &Place,
    guests: &[(usize, TcpStream)],
    mut stream: TcpStream,
) -> Result<Option<(usize, TcpStream)>, Error> {
    let mut greeting = [0; 16];
    let read = stream
        .set_nonblocking(false)
        .and_then(|()| stream.set_read_timeout(Some(Duration::from_secs(5))))
        .and_then(|()| stream.read_exact(&mut greeting));
    if read.is_err() || !greeting.starts_with(GREETING) {
        return Ok(None);
    }
    let [rank, size] = numbers(&greeting);
    if size != place.size || rank >= size {
        let words = format!(
            "rank {rank} was started as one of {size}, not of {}",
            place.size
        );
        return Err(Error::Launch(words));
    }
    if rank == 0 || guests.iter().any(|(known, _)| *known == rank) {
        let words = format!("two processes were started as rank {rank}");
        return Err(Error::Launch(words));
    }
    Ok(Some((rank, stream)))
}

fn numbers(greeting: &[u8; 16]) -> [usize; 2] {
    [8, 12].map(|at| {
        let bytes = greeting[at..at + 4].try_into().expect("four bytes");
        u32::from_le_bytes(bytes) as usize
    })
}

/// The connection to the first process and its gift.
fn visit(place: &Place, patience: Patience) -> Result<(TcpStream, Gift), Error> {
    let mut stream = reach(place, patience)?;
    let mut greeting = GREETING.to_vec();
    for number in [place.rank, place.size] {
        greeting.extend((number as u32).to_le_bytes());
    }
    let mut gift = [0; 128];
    let got = stream
        .set_read_timeout(Some(patience.arrival))
        .and_then(|()| stream.write_all(&greeting))
        .and_then(|()| stream.read_exact(&mut gift));
    got.map_err(|error| {
        Error::Lost(format!(
            "rank {} reached rank 0 at {}:{}, but got no answer ({error})",
            place.rank, place.address, place.port
        ))
    })?;
    Ok((stream, gift))
}

/// Tries until the first process is up and its name is known.
fn reach(place: &Place, patience: Patience) -> Result<TcpStream, Error> {
    let end = Instant::now() + patience.arrival;
    loop {
        let error = match connect(&place.address, place.port) {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        if Instant::now() > end {
            return Err(Error::Lost(format!(
                "rank {} could not reach rank 0 at {}:{} within {} s ({error})",
                place.rank,
                place.address,
                place.port,
                patience.arrival.as_secs()
            )));
        }
        thread::sleep(PAUSE);
    }
}

fn connect(address: &str, port: u16) -> io::Result<TcpStream> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in (address, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, Duration::from_secs(5)) {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn lost(rank: usize) -> Error {
    Error::Lost(Loss { rank, code: None }.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, channel};

    const BRIEF: Patience = Patience {
        arrival: Duration::from_millis(1500),
        silence: Duration::from_secs(3),
    };

    /// A port that was free a moment ago.
    fn port() -> u16 {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.local_addr().unwrap().port()
    }

    fn place(rank: usize, size: usize, port: u16) -> Place {
        Place {
            rank,
            size,
            address: "127.0.0.1".into(),
            port,
        }
    }

    type Attended = anyhow::Result<(Meeting, Gift, Receiver<Loss>)>;

    fn attend(place: Place) -> Attended {
        let (sender, losses) = channel();
        let on_loss = move |loss| sender.send(loss).unwrap_or_default();
        let (meeting, gift) = Meeting::attend(&place, BRIEF, || Ok([7; 128]), on_loss)?;
        Ok((meeting, gift, losses))
    }

    fn all(places: Vec<Place>) -> Vec<Attended> {
        let threads: Vec<_> = places
            .into_iter()
            .map(|place| thread::spawn(|| attend(place)))
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    }

    fn three() -> Vec<(Meeting, Gift, Receiver<Loss>)> {
        let port = port();
        let places = (0..3).map(|rank| place(rank, 3, port)).collect();
        all(places).into_iter().map(Result::unwrap).collect()
    }

    #[test]
    fn all_get_the_gift_and_end_together() {
        let met = three();
        assert!(met.iter().all(|(_, gift, _)| *gift == [7; 128]));
        let threads: Vec<_> = met
            .into_iter()
            .map(|(meeting, _, losses)| {
                thread::spawn(move || {
                    meeting.finish();
                    losses.try_recv().is_err()
                })
            })
            .collect();
        assert!(threads.into_iter().all(|t| t.join().unwrap()));
    }

    #[test]
    fn a_failure_is_told_to_everybody() {
        let met = three();
        met[2].0.fail(65);
        let told = |rank: usize| met[rank].2.recv_timeout(BRIEF.arrival).unwrap();
        let loss = Loss {
            rank: 2,
            code: Some(65),
        };
        assert_eq!([told(0), told(1)], [loss, loss]);
    }

    #[test]
    fn who_closes_without_a_goodbye_is_lost() {
        let met = three();
        let connections = std::mem::take(&mut *met[1].0.links.open.lock().unwrap());
        connections[0].1.shutdown(std::net::Shutdown::Both).unwrap();
        let told = |rank: usize| met[rank].2.recv_timeout(BRIEF.arrival).unwrap();
        assert_eq!(told(0).to_string(), "rank 1 is gone without a word");
        assert_eq!(told(2).to_string(), "rank 1 failed with exit code 69");
    }

    #[test]
    fn who_is_silent_is_lost() {
        let met = three();
        met[1].0.links.open.lock().unwrap().clear();
        let loss = met[0].2.recv_timeout(BRIEF.silence * 2).unwrap();
        assert_eq!(loss.rank, 1);
    }

    #[test]
    fn who_does_not_come_is_named() {
        let port = port();
        let outcomes = all(vec![place(0, 4, port), place(2, 4, port)]);
        let errors: Vec<_> = outcomes
            .into_iter()
            .map(|o| o.err().unwrap().to_string())
            .collect();
        assert!(
            errors[0].ends_with("for rank 1, 3, in vain"),
            "{}",
            errors[0]
        );
        assert!(errors[1].contains("got no answer"), "{}", errors[1]);
        let error = attend(place(1, 2, port)).err().unwrap().to_string();
        assert!(
            error.contains("could not reach rank 0 at 127.0.0.1"),
            "{error}"
        );
    }

    #[test]
    fn strangers_are_sent_away_and_wrong_numbers_refused() {
        let port = port();
        let first = thread::spawn(move || attend(place(0, 3, port)));
        let mut stranger = reach(&place(1, 3, port), BRIEF).unwrap();
        stranger.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let second = thread::spawn(move || attend(place(1, 2, port)));
        let error = first.join().unwrap().err().unwrap().to_string();
        assert_eq!(error, "rank 1 was started as one of 2, not of 3");
        assert!(second.join().unwrap().is_err());
    }
}
