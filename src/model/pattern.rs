//! Which layers of a decoder are of which kind, by a period: what configs and GGUF headers have in common.

/// What a layer of a decoder does with the tokens before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Attends to all of them.
    Full,
    /// Attends to those of a window.
    Sliding,
    /// Attends to those of its chunk.
    Chunked,
    /// Keeps a state.
    State,
    /// Attends and keeps a state, side by side.
    Both,
    /// Is an MLP alone.
    Mlp,
    /// Is a mixture of experts alone.
    Experts,
}

/// One layer of so many is of another kind than the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Every {
    /// How many layers a period has; 0 if there is none, and all are the others.
    pub(crate) period: u64,
    /// Which one of them it is.
    pub(crate) place: Place,
    /// What it is.
    pub(crate) one: Kind,
    /// What the others are.
    pub(crate) others: Kind,
}

/// Where in a period the other layer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    First,
    Last,
    /// After so many.
    After(u64),
    /// Last, and all that fill no period at the end are like it (of so many layers).
    LastAndRest,
}

impl Every {
    /// One full layer among sliding ones, the last of its period.
    pub(crate) const fn full(period: u64) -> Self {
        Self { period, place: Place::Last, one: Kind::Full, others: Kind::Sliding }
    }

    /// The same, the first of its period.
    pub(crate) const fn full_first(period: u64) -> Self {
        Self { place: Place::First, ..Self::full(period) }
    }

    /// One full layer among those that keep a state, the last of its period.
    pub(crate) const fn attending(period: u64) -> Self {
        Self { others: Kind::State, ..Self::full(period) }
    }

    /// The kind of a layer of so many.
    pub(crate) const fn kind(&self, layer: u64, layers: u64) -> Kind {
        let Some(at) = layer.checked_rem(self.period) else { return self.others };
        let is_last = at + 1 == self.period;
        let is_one = match self.place {
            Place::First => at == 0,
            Place::Last => is_last,
            Place::After(before) => at == before,
            Place::LastAndRest => is_last || layer >= layers - layers % self.period,
        };
        if is_one { self.one } else { self.others }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_layer_of_a_period_is_another() {
        for (every, expected) in [
            (Every::full(3), "SSFSSFS"),
            (Every::full_first(3), "FSSFSSF"),
            (Every { place: Place::After(1), ..Every::full(3) }, "SFSSFSS"),
            (Every { place: Place::LastAndRest, ..Every::full(3) }, "SSFSSFF"),
            (Every { place: Place::After(3), ..Every::full(3) }, "SSSSSSS"),
            (Every::full(1), "FFFFFFF"),
            (Every::full(0), "SSSSSSS"),
        ] {
            let letter = |layer| if every.kind(layer, 7) == Kind::Full { 'F' } else { 'S' };
            assert_eq!((0..7).map(letter).collect::<String>(), expected, "{every:?}");
        }
    }
}
