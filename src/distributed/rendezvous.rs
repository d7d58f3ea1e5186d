//! Rendezvous of processes that know the address of rank 0 only: it sends all the same unique id, and from then on reports
//! disconnected ranks.
//!
//! Rank 0 keeps a connection to every other rank. A frame is four bytes: a signal, an exit code and a rank. A rank that is silent
//! for too long, or closes its connection without a shutdown, is lost, and rank 0 notifies the others.

use super::{Error, Place};
use std::fmt::{self, Display};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The id that all ranks get from rank 0.
pub type UniqueId = [u8; 128];

const HANDSHAKE: &[u8; 8] = b"scgpt-1\n";
const HEARTBEAT: u8 = 0;
const SHUTDOWN: u8 = 1;
const FAILED: u8 = 2;
/// Interval between attempts.
const PAUSE: Duration = Duration::from_millis(100);

/// Timeouts of the rendezvous.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For all ranks to connect.
    pub arrival: Duration,
    /// For the next frame of a connected rank.
    pub silence: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            arrival: Duration::from_secs(300),
            silence: Duration::from_secs(30),
        }
    }
}

/// A rank that disconnected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disconnect {
    pub rank: usize,
    /// Its exit code, if it sent one.
    pub code: Option<u8>,
}

impl Display for Disconnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.rank, self.code) {
            (rank, Some(code)) => write!(f, "rank {rank} failed with exit code {code}"),
            (rank, None) => write!(f, "rank {rank} disconnected"),
        }
    }
}

/// The connected processes.
pub struct Rendezvous {
    links: Arc<Links>,
    listeners: Mutex<Vec<JoinHandle<()>>>,
}

/// Connections to other ranks.
struct Links {
    rank: usize,
    /// The ranks with their connections, until the shutdown.
    open: Mutex<Vec<(usize, TcpStream)>>,
    on_loss: Box<dyn Fn(Disconnect) + Send + Sync>,
}

impl Rendezvous {
    /// Connects to the other ranks through rank 0, which creates the id when all are connected. If one disconnects later, `on_loss`
    /// is called, on any thread and possibly more than once.
    ///
    /// # Errors
    ///
    /// If not all connected in time, or ranks of another launch did.
    pub fn join(
        place: &Place,
        timeouts: Timeouts,
        create_id: impl FnOnce() -> anyhow::Result<UniqueId>,
        on_loss: impl Fn(Disconnect) + Send + Sync + 'static,
    ) -> anyhow::Result<(Self, UniqueId)> {
        let (open, id) = if place.rank == 0 {
            let mut peers = accept(place, timeouts)?;
            let id = create_id()?;
            for (rank, stream) in &mut peers {
                stream.write_all(&id).map_err(|_| lost(*rank))?;
            }
            (peers, id)
        } else {
            let (stream, id) = connect(place, timeouts)?;
            (vec![(0, stream)], id)
        };
        let links = Links {
            rank: place.rank,
            open: Mutex::new(open),
            on_loss: Box::new(on_loss),
        };
        Ok((Self::begin(links, timeouts)?, id))
    }

    fn begin(links: Links, timeouts: Timeouts) -> io::Result<Self> {
        let links = Arc::new(links);
        let mut listeners = Vec::new();
        for (peer, stream) in links.open.lock().expect("no thread panicked").iter() {
            stream.set_read_timeout(Some(timeouts.silence))?;
            let (links, peer, stream) = (links.clone(), *peer, stream.try_clone()?);
            listeners.push(thread::spawn(move || listen(&links, peer, &stream)));
        }
        let (watched, pause) = (Arc::downgrade(&links), timeouts.silence / 6);
        thread::spawn(move || {
            while let Some(links) = watched.upgrade() {
                links.notify([HEARTBEAT, 0], links.rank);
                drop(links);
                thread::sleep(pause);
            }
        });
        Ok(Self {
            links,
            listeners: Mutex::new(listeners),
        })
    }

    /// Waits until every rank has shut down.
    pub fn finish(&self) {
        let is_first = self.links.rank == 0;
        if !is_first {
            self.links.shutdown();
        }
        let listeners = std::mem::take(&mut *self.listeners.lock().expect("no thread panicked"));
        for listener in listeners {
            // A listener that panicked has no more frames.
            let _ = listener.join();
        }
        if is_first {
            self.links.shutdown();
        }
    }

    /// Notifies the others that this rank fails.
    pub fn fail(&self, code: u8) {
        self.links.notify([FAILED, code], self.links.rank);
    }
}

impl Links {
    fn notify(&self, signal: [u8; 2], rank: usize) {
        let mut open = self.open.lock().expect("no thread panicked");
        write_all(&mut open, signal, rank);
    }

    /// Nothing is sent after a shutdown: unread data when a connection closes could discard it.
    fn shutdown(&self) {
        let mut open = self.open.lock().expect("no thread panicked");
        write_all(&mut open, [SHUTDOWN, 0], self.rank);
        open.clear();
    }

    fn lost(&self, loss: Disconnect, code: u8) {
        if self.rank == 0 {
            self.notify([FAILED, code], loss.rank);
        }
        (self.on_loss)(loss);
    }
}

/// The listener of a connection reports failed writes.
fn write_all(open: &mut [(usize, TcpStream)], [signal, code]: [u8; 2], rank: usize) {
    let [low, high, ..] = rank.to_le_bytes();
    for (_, stream) in open {
        let _ = stream.write_all(&[signal, code, low, high]);
    }
}

/// Exit code for a rank that sent none: a retry on another node may succeed.
pub const PEER_LOST: u8 = 69;

fn listen(links: &Links, peer: usize, mut stream: &TcpStream) {
    loop {
        let mut frame = [0; 4];
        let heard = stream.read_exact(&mut frame);
        let [signal, code, low, high] = frame;
        let rank = usize::from(u16::from_le_bytes([low, high]));
        match (heard, signal) {
            (Ok(()), HEARTBEAT) => {}
            (Ok(()), SHUTDOWN) => return,
            (Ok(()), FAILED) => {
                let loss = Disconnect {
                    rank,
                    code: Some(code),
                };
                return links.lost(loss, code);
            }
            _ => {
                let loss = Disconnect {
                    rank: peer,
                    code: None,
                };
                return links.lost(loss, PEER_LOST);
            }
        }
    }
}

/// The others, once all have connected.
fn accept(place: &Place, timeouts: Timeouts) -> Result<Vec<(usize, TcpStream)>, Error> {
    let listener = bind(place.port)?;
    let end = Instant::now() + timeouts.arrival;
    let mut peers: Vec<(usize, TcpStream)> = Vec::new();
    while peers.len() + 1 < place.size {
        if Instant::now() > end {
            return Err(absent(place, &peers, timeouts));
        }
        match listener.accept() {
            Ok((stream, _)) => peers.extend(handshake(place, &peers, stream)?),
            Err(_) => thread::sleep(PAUSE),
        }
    }
    Ok(peers)
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

fn absent(place: &Place, peers: &[(usize, TcpStream)], timeouts: Timeouts) -> Error {
    let came = |rank: &usize| peers.iter().any(|(known, _)| known == rank);
    let missing: Vec<String> = (1..place.size)
        .filter(|rank| !came(rank))
        .map(|rank| rank.to_string())
        .collect();
    Error::Lost(format!(
        "rank 0 timed out after {} s at port {} waiting for rank {}",
        timeouts.arrival.as_secs(),
        place.port,
        missing.join(", ")
    ))
}

/// Reads the handshake; a connection without a valid one is closed.
fn handshake(
    place: &Place,
    peers: &[(usize, TcpStream)],
    mut stream: TcpStream,
) -> Result<Option<(usize, TcpStream)>, Error> {
    let mut handshake = [0; 16];
    let read = stream
        .set_nonblocking(false)
        .and_then(|()| stream.set_read_timeout(Some(Duration::from_secs(5))))
        .and_then(|()| stream.read_exact(&mut handshake));
    if read.is_err() || !handshake.starts_with(HANDSHAKE) {
        return Ok(None);
    }
    let [rank, size] = numbers(&handshake);
    if size != place.size || rank >= size {
        let message = format!(
            "rank {rank} was started as one of {size}, not of {}",
            place.size
        );
        return Err(Error::Launch(message));
    }
    if rank == 0 || peers.iter().any(|(known, _)| *known == rank) {
        let message = format!("two processes were started as rank {rank}");
        return Err(Error::Launch(message));
    }
    Ok(Some((rank, stream)))
}

fn numbers(handshake: &[u8; 16]) -> [usize; 2] {
    [8, 12].map(|at| {
        let bytes = handshake[at..at + 4].try_into().expect("four bytes");
        u32::from_le_bytes(bytes) as usize
    })
}

/// The connection to rank 0 and the id that it sent.
fn connect(place: &Place, timeouts: Timeouts) -> Result<(TcpStream, UniqueId), Error> {
    let mut stream = reach(place, timeouts)?;
    let mut handshake = HANDSHAKE.to_vec();
    for number in [place.rank, place.size] {
        handshake.extend((number as u32).to_le_bytes());
    }
    let mut id = [0; 128];
    let got = stream
        .set_read_timeout(Some(timeouts.arrival))
        .and_then(|()| stream.write_all(&handshake))
        .and_then(|()| stream.read_exact(&mut id));
    got.map_err(|error| {
        Error::Lost(format!(
            "rank {} connected to rank 0 at {}:{}, but got no response ({error})",
            place.rank, place.address, place.port
        ))
    })?;
    Ok((stream, id))
}

/// Retries until rank 0 listens and its address resolves.
fn reach(place: &Place, timeouts: Timeouts) -> Result<TcpStream, Error> {
    let end = Instant::now() + timeouts.arrival;
    loop {
        let error = match connect_to(&place.address, place.port) {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        if Instant::now() > end {
            return Err(Error::Lost(format!(
                "rank {} could not reach rank 0 at {}:{} within {} s ({error})",
                place.rank,
                place.address,
                place.port,
                timeouts.arrival.as_secs()
            )));
        }
        thread::sleep(PAUSE);
    }
}

fn connect_to(address: &str, port: u16) -> io::Result<TcpStream> {
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
    Error::Lost(Disconnect { rank, code: None }.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, channel};

    const BRIEF: Timeouts = Timeouts {
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

    type Joined = anyhow::Result<(Rendezvous, UniqueId, Receiver<Disconnect>)>;

    fn join(place: Place) -> Joined {
        let (sender, losses) = channel();
        let on_loss = move |loss| sender.send(loss).unwrap_or_default();
        let (rendezvous, id) = Rendezvous::join(&place, BRIEF, || Ok([7; 128]), on_loss)?;
        Ok((rendezvous, id, losses))
    }

    fn all(places: Vec<Place>) -> Vec<Joined> {
        let threads: Vec<_> = places
            .into_iter()
            .map(|place| thread::spawn(|| join(place)))
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    }

    fn three() -> Vec<(Rendezvous, UniqueId, Receiver<Disconnect>)> {
        let port = port();
        let places = (0..3).map(|rank| place(rank, 3, port)).collect();
        all(places).into_iter().map(Result::unwrap).collect()
    }

    #[test]
    fn all_get_the_id_and_end_together() {
        let ranks = three();
        assert!(ranks.iter().all(|(_, id, _)| *id == [7; 128]));
        let threads: Vec<_> = ranks
            .into_iter()
            .map(|(rendezvous, _, losses)| {
                thread::spawn(move || {
                    rendezvous.finish();
                    losses.try_recv().is_err()
                })
            })
            .collect();
        assert!(threads.into_iter().all(|t| t.join().unwrap()));
    }

    #[test]
    fn a_failure_reaches_all_ranks() {
        let ranks = three();
        ranks[2].0.fail(65);
        let reported = |rank: usize| ranks[rank].2.recv_timeout(BRIEF.arrival).unwrap();
        let loss = Disconnect {
            rank: 2,
            code: Some(65),
        };
        assert_eq!([reported(0), reported(1)], [loss, loss]);
    }

    #[test]
    fn a_connection_closed_without_a_shutdown_is_lost() {
        let ranks = three();
        let connections = std::mem::take(&mut *ranks[1].0.links.open.lock().unwrap());
        connections[0].1.shutdown(std::net::Shutdown::Both).unwrap();
        let reported = |rank: usize| ranks[rank].2.recv_timeout(BRIEF.arrival).unwrap();
        assert_eq!(reported(0).to_string(), "rank 1 disconnected");
        assert_eq!(reported(2).to_string(), "rank 1 failed with exit code 69");
    }

    #[test]
    fn a_silent_rank_is_lost() {
        let ranks = three();
        ranks[1].0.links.open.lock().unwrap().clear();
        let loss = ranks[0].2.recv_timeout(BRIEF.silence * 2).unwrap();
        assert_eq!(loss.rank, 1);
    }

    #[test]
    fn ranks_that_do_not_connect_are_named() {
        let port = port();
        let outcomes = all(vec![place(0, 4, port), place(2, 4, port)]);
        let errors: Vec<_> = outcomes
            .into_iter()
            .map(|o| o.err().unwrap().to_string())
            .collect();
        assert!(
            errors[0].ends_with("waiting for rank 1, 3"),
            "{}",
            errors[0]
        );
        assert!(errors[1].contains("got no response"), "{}", errors[1]);
        let error = join(place(1, 2, port)).err().unwrap().to_string();
        assert!(
            error.contains("could not reach rank 0 at 127.0.0.1"),
            "{error}"
        );
    }

    #[test]
    fn invalid_handshakes_are_ignored_and_wrong_sizes_rejected() {
        let port = port();
        let first = thread::spawn(move || join(place(0, 3, port)));
        let mut stranger = reach(&place(1, 3, port), BRIEF).unwrap();
        stranger.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let second = thread::spawn(move || join(place(1, 2, port)));
        let error = first.join().unwrap().err().unwrap().to_string();
        assert_eq!(error, "rank 1 was started as one of 2, not of 3");
        assert!(second.join().unwrap().is_err());
    }
}
