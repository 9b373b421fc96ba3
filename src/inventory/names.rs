//! Names of nodes, shared: a decision over thousands of nodes copies none of them.

use std::fmt;
use std::sync::Arc;

/// Names of nodes, sorted. They are the inventory's own; a copy costs a few words, however many they are.
#[derive(Clone)]
pub struct NodeNames {
    all: Arc<[Arc<str>]>,
    /// Positions in `all` that do not count, ascending.
    left_out: Arc<[usize]>,
}

impl NodeNames {
    /// The same, without those at some positions, which ascend.
    pub(super) fn without(&self, left_out: Vec<usize>) -> Self {
        Self { all: Arc::clone(&self.all), left_out: left_out.into() }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all.len().saturating_sub(self.left_out.len())
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One of them, in order.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&str> {
        self.shared(index).map(AsRef::as_ref)
    }

    fn shared(&self, index: usize) -> Option<&Arc<str>> {
        // Every position left out that is not beyond the one sought moves it by one.
        let at = self.left_out.iter().fold(index, |at, left_out| if *left_out <= at { at + 1 } else { at });
        self.all.get(at)
    }

    /// The first.
    #[must_use]
    pub fn first(&self) -> Option<&str> {
        self.get(0)
    }

    /// The first, to be kept.
    pub(crate) fn shared_first(&self) -> Option<Arc<str>> {
        self.shared(0).map(Arc::clone)
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let mut left_out = self.left_out.iter().copied().peekable();
        let names = self.all.iter().enumerate();
        names.filter(move |(at, _)| left_out.next_if_eq(at).is_none()).map(|(_, name)| name.as_ref())
    }
}

impl<Name: Into<Arc<str>>> FromIterator<Name> for NodeNames {
    fn from_iter<Names: IntoIterator<Item = Name>>(names: Names) -> Self {
        Self { all: names.into_iter().map(Into::into).collect(), left_out: Arc::default() }
    }
}

impl PartialEq for NodeNames {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for NodeNames {}

impl fmt::Debug for NodeNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_not_there() {
        let names: NodeNames = ["a", "b", "c", "d", "e"].into_iter().collect();
        for (left_out, expected) in [
            (vec![], vec!["a", "b", "c", "d", "e"]),
            (vec![0], vec!["b", "c", "d", "e"]),
            (vec![0, 1, 3], vec!["c", "e"]),
            (vec![4], vec!["a", "b", "c", "d"]),
            (vec![0, 1, 2, 3, 4], vec![]),
        ] {
            let rest = names.without(left_out);
            assert_eq!(rest.iter().collect::<Vec<_>>(), expected);
            assert_eq!((0..5).map_while(|index| rest.get(index)).collect::<Vec<_>>(), expected);
            assert_eq!((rest.len(), rest.is_empty()), (expected.len(), expected.is_empty()));
            assert_eq!(rest, expected.into_iter().collect());
        }
    }
}
