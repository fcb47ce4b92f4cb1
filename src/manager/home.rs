//! A server as seen from its own thread: its objects, and the references to them that are its own.

use super::place::Place;
use super::protocol;
use super::served::{Answer, Call, Outcome, Served, Waits};
use super::types::ById;
use crate::codec::Payload;
use crate::process::panics;
use crate::process::target::{Entry as Run, EntryPoint, Target, instance};
use crate::{Decode, Decoder, Encode, Error, Result, sys};
use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

thread_local! {
    /// The server that this thread runs.
    static HERE: RefCell<Option<Rc<Home>>> = const { RefCell::new(None) };

    /// What [`Make`] has made, on its way to the server.
    static MADE: RefCell<Option<Box<dyn Served>>> = const { RefCell::new(None) };

    /// What [`Visit`] is to work on, the innermost last.
    static VISITED: RefCell<Vec<Rc<Entry>>> = const { RefCell::new(Vec::new()) };
}

/// What happens to references while an object is busy; the server sees to it afterwards.
#[derive(Clone, Copy, Debug)]
pub(super) enum Note {
    /// The server has a reference more, in exchange for one that a session had lent.
    Take { object: u64, from: u64 },
    /// The server has a reference less.
    Drop { object: u64 },
    /// A reference is on its way to a session.
    Lend { object: u64, session: u64 },
}

/// The notes that the server has not seen to.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    notes: Mutex<Vec<Note>>,
    any: AtomicBool,
}

impl Ledger {
    pub(super) fn add(&self, note: Note) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).push(note);
        self.any.store(true, Ordering::Release); // pairs with `take`
    }

    /// Whether there is no note.
    #[inline]
    pub(super) fn is_clear(&self) -> bool {
        !self.any.load(Ordering::Relaxed)
    }

    pub(super) fn take(&self) -> Vec<Note> {
        if !self.any.swap(false, Ordering::Acquire) {
            return Vec::new();
        }
        std::mem::take(&mut self.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// An object and the number of references to it.
pub(super) struct Entry {
    pub(super) kind: &'static str,
    pub(super) object: RefCell<Box<dyn Served>>,
    pub(super) references: Cell<u64>,
}

/// A server's objects.
pub(super) struct Home {
    pub(super) place: Arc<Place>,
    pub(super) objects: RefCell<ById<Rc<Entry>>>,
    pub(super) ledger: Arc<Ledger>,
    /// Whose request is being served.
    pub(super) session: Cell<u64>,
    /// Answers to waiting calls that calls from inside have brought about.
    pub(super) answers: RefCell<Vec<Answer>>,
}

impl Home {
    pub(super) fn new(place: Arc<Place>) -> Rc<Home> {
        Rc::new(Home {
            place,
            objects: RefCell::default(),
            ledger: Arc::default(),
            session: Cell::new(0),
            answers: RefCell::default(),
        })
    }

    /// Makes this the server of the calling thread until the guard is dropped.
    pub(super) fn enter(self: &Rc<Home>) -> Result<Entered> {
        HERE.with(|here| {
            let mut here = here.borrow_mut();
            if here.is_some() {
                return Err(Error::invalid("this thread runs a server already"));
            }
            *here = Some(Rc::clone(self));
            Ok(Entered)
        })
    }

    /// The calling thread's server, if it is the one of this number.
    pub(super) fn here(server: u64) -> Option<Rc<Home>> {
        Home::current().filter(|home| home.place.server == server)
    }

    /// The calling thread's server.
    pub(super) fn current() -> Option<Rc<Home>> {
        HERE.with(|here| here.borrow().clone())
    }

    /// Gives an object an id that nobody can guess. It has one reference.
    pub(super) fn add(&self, object: Box<dyn Served>) -> Result<u64> {
        let id = sys::random::u64().map_err(Error::os("getrandom"))?;
        let kind = object.kind();
        let entry = Entry { kind, object: RefCell::new(object), references: Cell::new(1) };
        self.objects.borrow_mut().insert(id, Rc::new(entry));
        Ok(id)
    }

    pub(super) fn find(&self, id: u64) -> Result<Rc<Entry>> {
        self.objects.borrow().get(&id).cloned().ok_or(Error::NoSuchObject)
    }

    /// Takes a reference away; gives the object if it was the last.
    pub(super) fn release(&self, id: u64, count: u64) -> Option<Rc<Entry>> {
        let mut objects = self.objects.borrow_mut();
        let entry = objects.get(&id)?;
        let left = entry.references.get().saturating_sub(count);
        entry.references.set(left);
        if left == 0 { objects.remove(&id) } else { None }
    }

    /// Makes an object by a function of the program.
    pub(super) fn make(&self, entry: &EntryPoint, arguments: &mut Payload) -> Result<u64> {
        let mut decoder = Decoder::new(&arguments.bytes, &mut arguments.fds);
        panics::catch(|| entry.run(&mut decoder, &mut Payload::default()))??;
        self.add_made()
    }

    fn add_made(&self) -> Result<u64> {
        let made = MADE.with(RefCell::take);
        self.add(made.ok_or_else(|| Error::decode("the function makes no object"))?)
    }

    /// Runs a function of the program on an object; gives its encoded result.
    pub(super) fn apply(
        &self,
        id: u64,
        function: &EntryPoint,
        arguments: &mut Payload,
    ) -> Result<Payload> {
        let entry = self.find(id)?;
        let mut result = Payload::default();
        let mut decoder = Decoder::new(&arguments.bytes, &mut arguments.fds);
        VISITED.with(|visited| visited.borrow_mut().push(entry));
        let outcome = panics::catch(|| function.run(&mut decoder, &mut result));
        VISITED.with(|visited| visited.borrow_mut().pop());
        outcome??;
        Ok(result)
    }

    /// Runs a method for somebody inside the server: `arguments` in, the reply as a frame out.
    pub(super) fn call(&self, id: u64, method: u64, arguments: &mut Payload) -> Result<Payload> {
        let entry = self.find(id)?;
        let mut object = entry.object.try_borrow_mut().map_err(|_| Error::Deadlock)?;
        let (mut reply, mut waits) = (Payload::default(), Waits::new(0, None));
        let mut call = Call {
            method,
            arguments: Decoder::new(&arguments.bytes, &mut arguments.fds),
            reply: &mut reply,
            waits: &mut waits,
            session: 0,
            outcome: Outcome::Open,
        };
        object.serve(&mut call)?;
        match call.outcome {
            Outcome::Open => protocol::push_value(&mut reply, &())?,
            Outcome::Lent(ticket) => object.settled(ticket, true, &mut waits),
            Outcome::Answered | Outcome::Parked(..) => {}
        }
        self.answers.borrow_mut().append(&mut waits.answers);
        Ok(reply)
    }
}

/// While this lives, the thread runs a server.
pub(super) struct Entered;

impl Drop for Entered {
    fn drop(&mut self) {
        // Dropped outside of the borrow: objects may hold proxies, whose drop looks here.
        let home = HERE.with(|here| here.try_borrow_mut().ok().and_then(|mut here| here.take()));
        drop(home);
    }
}

/// The entry of making an object by `F` from arguments `A`.
pub(super) struct Make<F, A, R>(PhantomData<fn(F, A) -> R>);

impl<F, A, R> Run for Make<F, A, R>
where
    F: Target<A, R>,
    A: Decode + 'static,
    R: Served,
{
    fn run(decoder: &mut Decoder<'_>, _: &mut Payload) -> Result<()> {
        made(instance::<F>().call(whole(decoder)?));
        Ok(())
    }
}

/// The entry of making an object by `F`, which may fail, from arguments `A`.
pub(super) struct TryMake<F, A, R, E>(PhantomData<(F, A, R, E)>);

impl<F, A, R, E> Run for TryMake<F, A, R, E>
where
    F: Target<A, Result<R, E>>,
    A: Decode + 'static,
    R: Served,
    E: Into<Error> + 'static,
{
    fn run(decoder: &mut Decoder<'_>, _: &mut Payload) -> Result<()> {
        made(instance::<F>().call(whole(decoder)?).map_err(Into::into)?);
        Ok(())
    }
}

/// The arguments, and nothing behind them.
fn whole<A: Decode>(decoder: &mut Decoder<'_>) -> Result<A> {
    let arguments = A::decode(decoder)?;
    if decoder.remaining() > 0 {
        return Err(Error::decode("bytes are left over"));
    }
    Ok(arguments)
}

fn made(object: impl Served) {
    MADE.with(|made| made.replace(Some(Box::new(object))));
}

/// The entry of calling `F` on an object `O` with an argument.
pub(super) struct Visit<F, O, A, R>(PhantomData<fn(F, O, A) -> R>);

impl<F, O, A, R> Run for Visit<F, O, A, R>
where
    F: Fn(&mut O, A) -> R + Copy + Send + Sync + 'static,
    O: Served,
    A: Decode + 'static,
    R: Encode + 'static,
{
    fn run(decoder: &mut Decoder<'_>, result: &mut Payload) -> Result<()> {
        let argument = A::decode(decoder)?;
        let entry = VISITED.with(|visited| visited.borrow().last().cloned());
        let entry = entry.ok_or_else(|| Error::decode("the function is for an object"))?;
        let mut object = entry.object.try_borrow_mut().map_err(|_| Error::Deadlock)?;
        let object = object.as_any().downcast_mut::<O>();
        let object = object.ok_or_else(|| Error::decode("the function is for another object"))?;
        result.push(&instance::<F>()(object, argument))
    }
}
