//! Loops over samples, eight of them in each step. Where the program is built for size nothing unrolls a loop, and its own steps
//! take as long as what is done with a sample; where it is built for speed, vectors are made of these as of any other.

const EIGHT: usize = 8;

/// Changes each of `to` by its partner in `from`, over the shorter of both.
#[inline]
pub(super) fn merge<A: Copy, B: Copy>(to: &mut [B], from: &[A], of: impl Fn(B, A) -> B) {
    let most = from.len().min(to.len());
    let (whole, rest) = from[..most].as_chunks::<EIGHT>();
    let (whole_to, rest_to) = to[..most].as_chunks_mut::<EIGHT>();
    for (from, to) in whole.iter().zip(whole_to) {
        let of = |at: usize| of(to[at], from[at]);
        *to = [of(0), of(1), of(2), of(3), of(4), of(5), of(6), of(7)];
    }
    for (&from, to) in rest.iter().zip(rest_to) {
        *to = of(*to, from);
    }
}

/// The sum of `of` each; it wraps beyond 32 bits.
#[inline]
pub(super) fn sum<A: Copy>(from: &[A], of: impl Fn(A) -> u32) -> u32 {
    let (whole, rest) = from.as_chunks::<EIGHT>();
    let eights = whole.iter().fold(0u32, |sum, &[a, b, c, d, e, f, g, h]| {
        let sum = sum.wrapping_add(of(a)).wrapping_add(of(b)).wrapping_add(of(c)).wrapping_add(of(d));
        sum.wrapping_add(of(e)).wrapping_add(of(f)).wrapping_add(of(g)).wrapping_add(of(h))
    });
    rest.iter().fold(eights, |sum, &it| sum.wrapping_add(of(it)))
}

#[cfg(test)]
mod tests {
    use super::{merge, sum};

    #[test]
    fn each_has_its_partner_at_every_length() {
        let from: Vec<u8> = (1..=40).collect();
        for (long, other) in (0..=40).flat_map(|long| (0..=40).map(move |other| (long, other))) {
            let most = long.min(other);
            let mut merged = vec![1000u32; other];
            merge(&mut merged, &from[..long], |to, it| to + u32::from(it));
            for at in 0..other {
                let it = if at < most { u32::from(from[at]) } else { 0 };
                assert_eq!(merged[at], 1000 + it, "{at} of {long} and {other}");
            }
            let whole: u32 = from[..long].iter().map(|&it| u32::from(it)).sum();
            assert_eq!(sum(&from[..long], u32::from), whole);
        }
    }
}
