//! Order in short lists, maps and sets: servers, candidates, codecs.

/// Sorts by a key, the least first; what is equal keeps its order. For lists whose length somebody has limited: its time
/// grows with the square. In return it is a few instructions, where the standard sort takes four kilobytes of program
/// for each type that is sorted.
pub fn sort_by_key<T, K: Ord>(items: &mut [T], key: impl Fn(&T) -> K) {
    for end in 2..=items.len() {
        for at in (1..end).rev() {
            match items.get(at - 1..=at) {
                Some([before, item]) if key(item) < key(before) => items.swap(at - 1, at),
                _ => break,
            }
        }
    }
}

/// A map or a set of a few things. `collect` would make it with the standard sort.
pub fn gathered<T, C: Default + Extend<T>>(things: impl IntoIterator<Item = T>) -> C {
    let mut all = C::default();
    all.extend(things);
    all
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_order_is_that_of_the_standard_sort(
            mut items in proptest::collection::vec((0u8..6, any::<u8>()), 0..40),
        ) {
            let mut expected = items.clone();
            expected.sort_by_key(|(key, _)| *key);
            sort_by_key(&mut items, |(key, _)| *key);
            prop_assert_eq!(items, expected);
        }
    }
}
