//! A process as a client: its sockets to one server, and what it has there.

use super::frames::{Filled, Inbox, Outbox};
use super::place::Place;
use super::protocol::{self, Greeting, Kind, LENGTH, Request, Welcome};
use crate::codec::Payload;
use crate::{Decode, Decoder, Encode, Error, Result, sys};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError, Weak};

/// The servers that this process is a client of. A fork has a copy, and no use for it.
static CLIENTS: Mutex<Vec<Weak<Client>>> = Mutex::new(Vec::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A socket to the server, used by one thread at a time.
#[derive(Debug)]
pub(super) struct Link {
    socket: OwnedFd,
    inbox: Inbox,
    outbox: Outbox,
    /// How many replies have not been read.
    due: usize,
}

/// This process's session with a server.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) place: Arc<Place>,
    /// The process whose session it is.
    pid: u32,
    secret: [u8; 16],
    pub(super) session: u64,
    max_message: u64,
    /// The last that was used is on top: a program of one thread uses one alone.
    #[allow(clippy::vec_box)] // It comes out and goes in with each call.
    idle: Mutex<Vec<Box<Link>>>,
    /// The socket on which requests were posted that nobody has waited for.
    posted: Mutex<Option<Box<Link>>>,
    any_posted: AtomicBool,
    /// References that are to be given back with the next request.
    garbage: Mutex<Vec<u64>>,
    any_garbage: AtomicBool,
}

impl Client {
    /// This process's session with the server at `place`, which is begun if there is none.
    pub(super) fn of(place: &Arc<Place>) -> Result<Arc<Client>> {
        match Client::known(place.server) {
            Some(client) => Ok(client),
            None => Client::begin(place),
        }
    }

    /// This process's session with the server of this number.
    pub(super) fn known(server: u64) -> Option<Arc<Client>> {
        let pid = sys::process::id();
        let mut clients = lock(&CLIENTS);
        clients.retain(|client| client.strong_count() > 0);
        clients
            .iter()
            .filter_map(Weak::upgrade)
            .find(|client| client.pid == pid && client.place.server == server)
    }

    fn begin(place: &Arc<Place>) -> Result<Arc<Client>> {
        let mut secret = [0; 16];
        sys::random::fill(&mut secret).map_err(Error::os("getrandom"))?;
        let (link, welcome) = Link::open(place, secret)?;
        let place = match place.server {
            // The number of a server that was only known by its address.
            0 => Arc::new(Place {
                server: welcome.server,
                address: place.address.clone(),
                key: place.key.clone(),
            }),
            server if server == welcome.server => Arc::clone(place),
            _ => return Err(Error::Disconnected),
        };
        if let Some(client) = Client::known(place.server) {
            return Ok(client);
        }
        let client = Arc::new(Client {
            place,
            pid: sys::process::id(),
            secret,
            session: welcome.session,
            max_message: welcome.max_message,
            idle: Mutex::new(vec![link]),
            posted: Mutex::default(),
            any_posted: AtomicBool::new(false),
            garbage: Mutex::default(),
            any_garbage: AtomicBool::new(false),
        });
        close_after_fork();
        lock(&CLIENTS).push(Arc::downgrade(&client));
        Ok(client)
    }

    /// Whether this is the process that it belongs to.
    pub(super) fn is_ours(&self) -> bool {
        self.pid == sys::process::id()
    }

    /// A socket that nobody else uses meanwhile.
    pub(super) fn take(&self) -> Result<Box<Link>> {
        if self.any_posted.load(Ordering::Acquire) {
            // The next request comes behind those that were posted.
            if let Some(link) = lock(&self.posted).take() {
                self.any_posted.store(false, Ordering::Release);
                return Ok(link);
            }
        }
        match lock(&self.idle).pop() {
            Some(link) => Ok(link),
            None => Link::open(&self.place, self.secret).map(|(link, _)| link),
        }
    }

    /// Puts back a socket on which nothing is under way.
    pub(super) fn put_back(&self, link: Box<Link>) {
        lock(&self.idle).push(link);
    }

    /// Puts back a socket on which requests were posted.
    pub(super) fn put_back_posted(&self, link: Box<Link>) {
        let before = lock(&self.posted).replace(link);
        self.any_posted.store(true, Ordering::Release);
        if let Some(before) = before {
            self.put_back(before);
        }
    }

    /// Sends a request and waits for its reply.
    pub(super) fn exchange<A: Encode + ?Sized, R: Decode>(
        &self,
        request: Request,
        arguments: &A,
    ) -> Result<R> {
        let mut link = self.take()?;
        if let Err(error) = link.push(self, request, arguments) {
            link.outbox.clear();
            self.put_back(link);
            return Err(error);
        }
        let reply = link.flush().and_then(|()| link.receive::<R>());
        match reply {
            Ok(reply) => {
                self.put_back(link);
                reply
            }
            // Nobody knows what would come next on this socket.
            Err(error) => Err(error),
        }
    }

    /// Gives a reference back, now if that can be done without waiting.
    pub(super) fn give_back(&self, object: u64) {
        if !self.is_ours() {
            return;
        }
        lock(&self.garbage).push(object);
        self.any_garbage.store(true, Ordering::Release);
        let idle = self.idle.try_lock().ok().and_then(|mut idle| idle.pop());
        if let Some(mut link) = idle {
            self.push_garbage(&mut link);
            if link.outbox.flush(link.socket.as_fd(), false).is_ok() {
                self.put_back(link);
            }
        }
    }

    fn push_garbage(&self, link: &mut Link) {
        let is_any = || self.any_garbage.swap(false, Ordering::Acquire);
        if !self.any_garbage.load(Ordering::Relaxed) || !is_any() {
            return;
        }
        for object in std::mem::take(&mut *lock(&self.garbage)) {
            let request = Request { no_reply: true, ..Request::new(Kind::Drop, object) };
            let _ = link.outbox.push(|out| protocol::push_request(out, request, &()));
        }
    }
}

impl Link {
    /// Connects and greets.
    fn open(place: &Place, secret: [u8; 16]) -> Result<(Box<Link>, Welcome)> {
        let socket = place.dial()?;
        let (inbox, outbox) = (Inbox::default(), Outbox::default());
        let mut link = Box::new(Link { socket, inbox, outbox, due: 1 });
        link.outbox.push(|out| out.bytes.extend(Greeting { secret }.to_frame()));
        link.flush()?;
        let welcome = link.receive::<Welcome>()??;
        Ok((link, welcome))
    }

    /// Appends a request to what is to be sent.
    pub(super) fn push<A: Encode + ?Sized>(
        &mut self,
        client: &Client,
        request: Request,
        arguments: &A,
    ) -> Result<()> {
        client.push_garbage(self);
        let before = self.outbox.len();
        let request = Request { caught_up: self.due == 0, ..request };
        self.outbox.push(|out| {
            let (start, fds) = (out.bytes.len(), out.fds.len());
            protocol::push_request(out, request, arguments)?;
            let len = (out.bytes.len() - start - LENGTH) as u64;
            if len > client.max_message {
                out.bytes.truncate(start);
                out.fds.truncate(fds);
                return Err(Error::MessageTooLong { len, max: client.max_message });
            }
            Ok(())
        })?;
        debug_assert!(self.outbox.len() > before);
        self.due += usize::from(!request.no_reply);
        Ok(())
    }

    /// How many bytes are to be sent.
    pub(super) fn unsent(&self) -> usize {
        self.outbox.len()
    }

    /// Sends all there is to send.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.outbox.flush(self.socket.as_fd(), true).map(drop)
    }

    /// Waits for a reply. The outer error ends the socket's use, the inner one is the reply.
    pub(super) fn receive<R: Decode>(&mut self) -> Result<Result<R>> {
        loop {
            if let Some(frame) = self.inbox.frame(usize::MAX)? {
                let (is_value, fds, _) = protocol::parse_reply(self.inbox.body(frame.clone()))?;
                let mut fds = self.inbox.take_fds(fds)?;
                self.due = self.due.saturating_sub(1);
                let rest = &self.inbox.body(frame)[protocol::REPLY..];
                let mut decoder = Decoder::new(rest, &mut fds);
                return Ok(protocol::decode_rest(is_value, &mut decoder));
            }
            self.fill()?;
        }
    }

    /// Waits for a reply, and gives it as it came: whether it is a value, and the rest.
    pub(super) fn receive_raw(&mut self) -> Result<(bool, Payload)> {
        loop {
            if let Some(frame) = self.inbox.frame(usize::MAX)? {
                let (is_value, fds, rest) = protocol::parse_reply(self.inbox.body(frame))?;
                let bytes = rest.to_vec();
                self.due = self.due.saturating_sub(1);
                return Ok((is_value, Payload { bytes, fds: self.inbox.take_fds(fds)? }));
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> Result<()> {
        match self.inbox.fill(self.socket.as_fd(), false)? {
            Filled::End | Filled::Lost => Err(Error::Disconnected),
            Filled::Some | Filled::Nothing => Ok(()),
        }
    }
}

/// A child forked from this process closes its copies of the sockets: while it held them, the server
/// would take this process for alive.
fn close_after_fork() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| crate::at_fork_child(close_inherited));
}

fn close_inherited() {
    // No thread that may hold these locks is in the child; one that held them stays behind for ever.
    let clients: Vec<_> =
        CLIENTS.try_lock().map(|mut all| std::mem::take(&mut *all)).unwrap_or_default();
    for client in clients.iter().filter_map(Weak::upgrade) {
        let links = client.idle.try_lock().map(|mut idle| std::mem::take(&mut *idle));
        let posted = client.posted.try_lock().map(|mut posted| posted.take());
        drop((links, posted));
    }
}
