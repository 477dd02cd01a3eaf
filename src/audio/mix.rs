//! Several sounds at once, each listener without their own.

use super::eights;

/// Up to here a mix is exact; above, peaks are pressed together.
const KNEE: i32 = 24_576;
const ROOM: i32 = 32_767 - KNEE;

/// A sum of legs for one period; kept and used again.
#[derive(Debug, Clone, Default)]
pub struct Mixer {
    sum: Vec<i32>,
    legs: usize,
}

impl Mixer {
    /// For periods of up to `samples`.
    pub fn new(samples: usize) -> Mixer {
        Mixer { sum: Vec::with_capacity(samples), legs: 0 }
    }

    /// Begins a period of `samples`.
    pub fn begin(&mut self, samples: usize) {
        self.sum.clear();
        self.sum.resize(samples, 0);
        self.legs = 0;
    }

    /// Adds a leg; what it lacks is silence, what it has too much is left out.
    pub fn add(&mut self, pcm: &[i16]) {
        eights::merge(&mut self.sum, pcm, |sum, sample| sum + i32::from(sample));
        self.legs += 1;
    }

    /// How many legs were added.
    pub fn legs(&self) -> usize {
        self.legs
    }

    /// The mix of all legs but `own` (one that was added, or nothing), into `out`. A single leg passes
    /// unchanged.
    pub fn without(&self, own: &[i16], out: &mut [i16]) {
        let heard = self.legs - usize::from(!own.is_empty()).min(self.legs);
        let common = own.len().min(out.len()).min(self.sum.len());
        for ((to, &sum), &own) in out[..common].iter_mut().zip(&self.sum).zip(own) {
            *to = press(sum - i32::from(own), heard > 1);
        }
        for (to, &sum) in out[common..].iter_mut().zip(self.sum.get(common..).unwrap_or_default()) {
            *to = press(sum, heard > 1);
        }
        if let Some(rest) = out.get_mut(self.sum.len()..) {
            rest.fill(0);
        }
    }

    /// The mix of all legs, into `out`.
    pub fn all(&self, out: &mut [i16]) {
        self.without(&[], out);
    }
}

/// Adds `pcm` to `onto` with the limits of a sample.
pub fn add(onto: &mut [i16], pcm: &[i16]) {
    eights::merge(onto, pcm, i16::saturating_add);
}

fn press(value: i32, soft: bool) -> i16 {
    if !soft {
        return value.clamp(-32_768, 32_767) as i16;
    }
    let size = value.abs();
    let pressed = size.min(KNEE) + ((size - KNEE).max(0) >> 2).min(ROOM);
    (if value < 0 { -pressed } else { pressed }) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_hears_the_others() {
        let mut mixer = Mixer::new(3);
        mixer.begin(3);
        for leg in [[1, 10, 100], [2, 20, 200], [3, 30, 300]] {
            mixer.add(&leg);
        }
        let mut out = [9; 3];
        mixer.without(&[2, 20, 200], &mut out);
        assert_eq!(out, [4, 40, 400]);
        mixer.all(&mut out);
        assert_eq!((out, mixer.legs()), ([6, 60, 600], 3));
    }

    #[test]
    fn one_leg_is_heard_as_it_is_and_two_loud_ones_are_pressed() {
        let mut mixer = Mixer::new(4);
        mixer.begin(4);
        mixer.add(&[i16::MAX, i16::MIN, 25_000, 5]);
        mixer.add(&[7, 7, 7, 7]);
        let mut out = [0; 4];
        mixer.without(&[7, 7, 7, 7], &mut out);
        assert_eq!(out, [i16::MAX, i16::MIN, 25_000, 5]);
        mixer.begin(4);
        mixer.add(&[i16::MAX, i16::MIN, 20_000, 5]);
        mixer.add(&[i16::MAX, i16::MIN, 20_000, 5]);
        mixer.all(&mut out);
        assert_eq!(out, [32_767, -32_767, 28_432, 10]);
        // Louder stays louder.
        let curve: Vec<i16> = (0..70_000).map(|value| press(value, true)).collect();
        assert!(curve.windows(2).all(|pair| pair[0] <= pair[1]));
    }

    #[test]
    fn lengths_that_differ_do_no_harm() {
        let mut mixer = Mixer::new(2);
        mixer.begin(4);
        mixer.add(&[1, 1]);
        mixer.add(&[2; 9]);
        let mut out = [9; 6];
        mixer.without(&[2; 3], &mut out);
        assert_eq!(out, [1, 1, 0, 2, 0, 0]);
        mixer.without(&[2; 9], &mut out[..1]);
        assert_eq!(out[0], 1);
        Mixer::default().all(&mut out);
        assert_eq!(out, [0; 6]);
        let mut onto = [30_000, 1];
        add(&mut onto, &[30_000]);
        assert_eq!(onto, [32_767, 1]);
    }
}
