//! The sum of products, the one inner loop of filters and searches.

/// Sum of `a[n] * b[n]` over the shorter of both. It wraps beyond 32 bits: callers see to it that it doesn't
/// come to that.
#[inline]
pub(super) fn dot(a: &[i16], b: &[i16]) -> i32 {
    let (whole_a, rest_a) = a.as_chunks::<16>();
    let (whole_b, rest_b) = b.as_chunks::<16>();
    let sum = whole_a.iter().zip(whole_b).fold(0, |sum: i32, (a, b)| sum.wrapping_add(dot16(a, b)));
    // What is left of the longer one has no partner.
    let (at, mut sum) = (whole_a.len().min(whole_b.len()) * 16, sum);
    if !rest_a.is_empty() || !rest_b.is_empty() {
        let rest = a[at..].iter().zip(&b[at..]).map(|(&a, &b)| i32::from(a) * i32::from(b));
        sum = rest.fold(sum, i32::wrapping_add);
    }
    sum
}

/// The same for sixteen. It is written out: compilers that optimise for speed make vector instructions of it that add products in
/// pairs, and those that optimise for size would make a loop, whose steps cost as much as its products.
#[inline]
pub(super) fn dot16(a: &[i16; 16], b: &[i16; 16]) -> i32 {
    let times = |at: usize| i32::from(a[at]).wrapping_mul(i32::from(b[at]));
    let first = [times(0), times(1), times(2), times(3), times(4), times(5), times(6), times(7)];
    let second = [times(8), times(9), times(10), times(11), times(12), times(13), times(14), times(15)];
    let [p, q, r, s, t, u, v, w] = first;
    let sum = p.wrapping_add(q).wrapping_add(r).wrapping_add(s);
    let sum = sum.wrapping_add(t).wrapping_add(u).wrapping_add(v).wrapping_add(w);
    let [p, q, r, s, t, u, v, w] = second;
    let sum = sum.wrapping_add(p).wrapping_add(q).wrapping_add(r).wrapping_add(s);
    sum.wrapping_add(t).wrapping_add(u).wrapping_add(v).wrapping_add(w)
}

#[cfg(test)]
mod tests {
    use super::dot;

    #[test]
    fn it_is_the_sum_of_products_for_every_length() {
        let a: Vec<i16> = (0..100).map(|n| n * 3 - 150).collect();
        let b: Vec<i16> = (0..100).map(|n| 77 - n * 2).collect();
        for length in 0..100 {
            let plain: i32 = (0..length).map(|n| i32::from(a[n]) * i32::from(b[n])).sum();
            assert_eq!(dot(&a[..length], &b), plain);
            assert_eq!(dot(&a, &b[..length]), plain);
        }
    }
}
