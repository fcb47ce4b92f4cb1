//! Channels and simple queues whose users are killed.

use super::report::Config;
use super::step::{After, Marker, Scenario, Tally, sweep};
use multiproc::{Error, Queue, Receiver, Sender, SimpleQueue};

type Bytes = Vec<u8>;

/// A message of which every byte follows from its length.
fn message(len: usize) -> Bytes {
    (0..len).map(|i| (i * 7 + len) as u8).collect()
}

fn check(bytes: &Bytes) {
    assert!(*bytes == message(bytes.len()), "a message of {} bytes is broken", bytes.len());
}

/// Receives until the last sender is gone.
fn receive_all(receiver: &Receiver<Bytes>) {
    receiver.iter().for_each(|bytes| check(&bytes.unwrap()));
}

/// The victim has a sender; receivers sleep.
struct Sending {
    /// Whether it is the only one.
    last: bool,
    len: usize,
}

struct SendingState {
    /// With the victim's sender, which is nobody's until it has been got.
    post: Queue<Sender<Bytes>>,
    other: Option<Sender<Bytes>>,
    receiver: Receiver<Bytes>,
}

impl Scenario for Sending {
    type State = SendingState;

    fn setup(&self) -> SendingState {
        let (sender, receiver) = Queue::builder().max_bytes(1 << 20).build_channel().unwrap();
        let post = Queue::new().unwrap();
        post.put(&sender).unwrap();
        SendingState { post, other: (!self.last).then_some(sender), receiver }
    }

    fn sleepers(&self) -> usize {
        2
    }

    fn sleep(&self, state: &SendingState, _index: usize, _tally: &Tally) {
        if self.last {
            receive_all(&state.receiver);
        } else {
            check(&state.receiver.recv().unwrap());
        }
    }

    fn victim(&self, state: &SendingState, marker: Marker) {
        let sender = state.post.get().unwrap();
        let message = message(self.len);
        marker.step_from_here();
        sender.send(&message).unwrap();
    }

    fn stuck(&self, state: &SendingState, after: &After) -> Option<String> {
        if after.asleep.is_empty() {
            return None;
        }
        let beside = !state.receiver.is_empty().unwrap();
        (self.last || beside).then(|| format!("{:?} asleep in recv", after.asleep))
    }

    fn proceed(&self, state: &SendingState, after: &After, _tally: &Tally) {
        match &state.other {
            Some(other) => after.asleep.iter().for_each(|_| other.send(&message(9)).unwrap()),
            None => {
                assert!(matches!(state.receiver.recv(), Err(Error::Disconnected)));
            }
        }
    }

    fn verify(&self, state: &SendingState) {
        if let Some(other) = &state.other {
            other.send(&message(11)).unwrap();
            loop {
                let bytes = state.receiver.recv().unwrap();
                check(&bytes);
                if bytes.len() == 11 {
                    break;
                }
            }
        }
    }
}

pub(crate) fn the_last_sender_leaves_no_receiver_asleep() {
    let scenario = Sending { last: true, len: 3000 };
    sweep(&Config::from_env(), "channel: last sender", &scenario).assert_clean();
}

pub(crate) fn a_sender_beside_another_is_no_disconnection() {
    let scenario = Sending { last: false, len: 3000 };
    let config = Config::from_env().shortened(4);
    sweep(&config, "channel: one of two senders", &scenario).assert_clean();
}

/// The victim has a receiver and receives; senders sleep at a full channel.
struct Receiving {
    /// Whether it is the only one.
    last: bool,
}

struct ReceivingState {
    /// With the victim's receiver, which is nobody's until it has been got.
    post: Queue<Receiver<Bytes>>,
    other: Option<Receiver<Bytes>>,
    sender: Sender<Bytes>,
}

impl Scenario for Receiving {
    type State = ReceivingState;

    fn setup(&self) -> ReceivingState {
        let builder = Queue::builder().maxsize(1).max_bytes(1 << 20);
        let (sender, receiver) = builder.build_channel().unwrap();
        sender.send(&message(300)).unwrap();
        let post = Queue::new().unwrap();
        post.put(&receiver).unwrap();
        ReceivingState { post, other: (!self.last).then_some(receiver), sender }
    }

    fn sleepers(&self) -> usize {
        2
    }

    fn sleep(&self, state: &ReceivingState, _index: usize, _tally: &Tally) {
        loop {
            match state.sender.send(&message(9)) {
                Ok(()) if self.last => {}
                Ok(()) => return,
                Err(error) => {
                    assert!(self.last && matches!(error, Error::Disconnected), "{error}");
                    return;
                }
            }
        }
    }

    fn victim(&self, state: &ReceivingState, marker: Marker) {
        let receiver = state.post.get().unwrap();
        marker.step_from_here();
        check(&receiver.recv().unwrap());
    }

    fn stuck(&self, state: &ReceivingState, after: &After) -> Option<String> {
        if after.asleep.is_empty() {
            return None;
        }
        let beside = !state.sender.is_full().unwrap();
        (self.last || beside).then(|| format!("{:?} asleep in send", after.asleep))
    }

    fn proceed(&self, state: &ReceivingState, after: &After, _tally: &Tally) {
        match &state.other {
            Some(other) => after.asleep.iter().for_each(|_| check(&other.recv().unwrap())),
            None => {
                let sent = state.sender.send(&message(9));
                assert!(matches!(sent, Err(Error::Disconnected)), "{sent:?}");
            }
        }
    }

    fn verify(&self, state: &ReceivingState) {
        if let Some(other) = &state.other {
            while let Ok(bytes) = other.try_recv() {
                check(&bytes);
            }
            state.sender.send(&message(11)).unwrap();
            assert_eq!(other.recv().unwrap().len(), 11);
        }
    }
}

pub(crate) fn the_last_receiver_leaves_no_sender_asleep() {
    let scenario = Receiving { last: true };
    sweep(&Config::from_env(), "channel: last receiver", &scenario).assert_clean();
}

pub(crate) fn a_receiver_beside_another_is_no_disconnection() {
    let config = Config::from_env().shortened(4);
    sweep(&config, "channel: one of two receivers", &Receiving { last: false }).assert_clean();
}

/// Getters of a simple queue sleep, the victim before the other; then it is woken.
struct SimpleGet;

impl Scenario for SimpleGet {
    type State = SimpleQueue<u32>;

    fn setup(&self) -> Self::State {
        SimpleQueue::new().unwrap()
    }

    fn sleep(&self, queue: &Self::State, _index: usize, _tally: &Tally) {
        assert!([1, 2].contains(&queue.get().unwrap()));
    }

    fn victim(&self, queue: &Self::State, marker: Marker) {
        marker.step_from_here();
        queue.get().unwrap();
    }

    fn unblock(&self, queue: &Self::State) -> bool {
        queue.try_put(&1).is_ok()
    }

    fn stuck(&self, queue: &Self::State, after: &After) -> Option<String> {
        let beside = !queue.is_empty().unwrap() && !after.asleep.is_empty();
        beside.then(|| "asleep beside an item".into())
    }

    fn proceed(&self, queue: &Self::State, after: &After, _tally: &Tally) {
        after.asleep.iter().for_each(|_| queue.put(&2).unwrap());
    }

    fn verify(&self, queue: &Self::State) {
        while queue.try_get().is_ok() {}
        queue.put(&3).unwrap();
        assert_eq!(queue.get().unwrap(), 3);
    }
}

pub(crate) fn a_getter_of_a_simple_queue_that_was_woken_is_replaced() {
    sweep(&Config::from_env(), "simple queue: woken getter", &SimpleGet).assert_clean();
}
