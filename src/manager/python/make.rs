//! What a Python program can have made, by the names that a `SyncManager` has for it.

use super::arguments::{Arguments, Raised, entries};
use crate::manager::objects::{
    Array, Barrier, Condition, Dict, Event, List, Lock, Namespace, Queue, RLock, Semaphore, Set,
    Value,
};
use crate::manager::served::Served;
use crate::{Object, Result};

/// Makes an object of the type of this name.
pub(super) fn make(type_name: &str, mut given: Arguments) -> Result<Box<dyn Served>, Raised> {
    let made: Box<dyn Served> = match type_name {
        "list" => Box::new(List::from(given.items("iterable")?)),
        "dict" => {
            let mut all = given.optional("mapping").map_or(Ok(Vec::new()), entries)?;
            all.extend(given.take_keywords());
            Box::new(Dict::from_entries(all))
        }
        "set" => Box::new(Set::from_items(given.items("iterable")?)),
        "Namespace" => {
            let mut space = Namespace::new();
            for (name, value) in given.take_keywords() {
                if let Object::Str(name) = name {
                    space.set(&name, value);
                }
            }
            Box::new(space)
        }
        "Queue" | "JoinableQueue" => {
            let maxsize = usize::try_from(given.or("maxsize", 0i64)?).unwrap_or(0);
            Box::new(Queue::<Object>::bounded(maxsize))
        }
        "Event" => Box::new(Event::new()),
        "Lock" => Box::new(Lock::new()),
        "RLock" => Box::new(RLock::new()),
        "Condition" => Box::new(Condition::new()),
        "Semaphore" => Box::new(Semaphore::new(permits(&mut given)?, u32::MAX)),
        "BoundedSemaphore" => {
            let permits = permits(&mut given)?;
            Box::new(Semaphore::new(permits, permits))
        }
        "Barrier" => {
            let parties = usize::try_from(given.integer("parties")?).unwrap_or(0);
            let action = given.optional("action").unwrap_or(Object::None);
            if parties == 0 || !action.is_none() {
                return Err(Raised::builtin("ValueError", "a barrier has parties and no action"));
            }
            Box::new(Barrier::new(parties, given.timeout()?))
        }
        // The type code is Python's affair, and so is a lock, which its managers do not use either.
        "Value" => {
            given.required("typecode")?;
            let value = given.required("value")?;
            given.optional("lock");
            Box::new(Value::new(value))
        }
        "Array" => {
            given.required("typecode")?;
            let items = given.items("sequence")?;
            given.optional("lock");
            Box::new(Array::from_items(items))
        }
        _ => return Err(Raised::Trouble(format!("nothing is registered as {type_name:?}"))),
    };
    given.finish()?;
    Ok(made)
}

fn permits(given: &mut Arguments) -> Result<u32, Raised> {
    let refusal = |_| Raised::builtin("ValueError", "semaphore initial value must be >= 0");
    u32::try_from(given.or("value", 1i64)?).map_err(refusal)
}
