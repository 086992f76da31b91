//! The one timer queue: everything that is to happen later, in the order of simulated time.

use super::state::State;
use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
};

/// What is done when its time has come.
pub type Job = Box<dyn FnOnce(&mut State) + Send>;

#[derive(Default)]
pub struct Queue {
    entries: BinaryHeap<Reverse<Entry>>,
    numbered: u64,
}

struct Entry {
    at_s: f64,
    number: u64,
    job: Job,
}

impl Queue {
    /// Jobs of one time run in the order they were put in.
    pub fn push(&mut self, at_s: f64, job: Job) {
        self.numbered += 1;
        self.entries.push(Reverse(Entry { at_s, number: self.numbered, job }));
    }

    /// When the next job is due, in simulated seconds.
    pub fn next_s(&self) -> Option<f64> {
        self.entries.peek().map(|Reverse(entry)| entry.at_s)
    }

    /// The next job that is due at `now_s`, with its time.
    pub fn pop(&mut self, now_s: f64) -> Option<(f64, Job)> {
        if self.next_s()? > now_s {
            return None;
        }
        self.entries.pop().map(|Reverse(entry)| (entry.at_s, entry.job))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at_s.total_cmp(&other.at_s).then(self.number.cmp(&other.number))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Entry {}
