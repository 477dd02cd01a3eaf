//! Sound takes no memory once a call stands: a counting allocator watches coding, gaps, changes of rate,
//! mixing and tones.

use crate::allocations_so_far;
use tipring::audio::codec::{CODECS, Parameters};
use tipring::audio::comfort::{Description, Generator};
use tipring::audio::dtmf::{DtmfDetector, DtmfPlayer};
use tipring::audio::gain::Gain;
use tipring::audio::mix::Mixer;
use tipring::audio::resample::{RATES, Resampler};
use tipring::audio::speech::Speech;
use tipring::audio::stretch::{Haste, Wish, apply};
use tipring::audio::tones::{Tone, TonePlayer};

/// How often memory was taken meanwhile.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = allocations_so_far();
    work();
    allocations_so_far() - before
}

#[test]
fn coding_and_concealing_take_no_memory() {
    for codec in &CODECS {
        let parameters = Parameters::of(codec);
        let mut encoder = (codec.encoder)(&parameters).unwrap();
        let mut decoder = (codec.decoder)(&parameters).unwrap();
        let mut speech = Speech::new(1, parameters.sample_rate);
        let mut input = vec![0; parameters.sample_rate as usize / 50];
        let (mut payload, mut pcm) = (Vec::with_capacity(2000), Vec::with_capacity(8000));
        let taken = allocations(|| {
            for frame in 0..100 {
                speech.fill(&mut input);
                payload.clear();
                pcm.clear();
                encoder.encode(&input, &mut payload);
                match frame % 10 {
                    3 | 4 => decoder.conceal(input.len(), &mut pcm),
                    5 => {
                        decoder.decode_fec(&payload, input.len(), &mut pcm);
                        decoder.decode(&payload, &mut pcm).unwrap();
                    }
                    _ => decoder.decode(&payload, &mut pcm).unwrap(),
                }
                let haste = if frame % 2 == 0 { Haste::Calm } else { Haste::Urgent };
                let wish = if frame % 3 == 0 { Wish::Shrink } else { Wish::Stretch };
                apply(wish, haste, parameters.sample_rate, &mut pcm);
            }
        });
        assert_eq!(taken, 0, "{}", codec.name);
    }
}

#[test]
fn what_else_is_done_to_sound_takes_no_memory() {
    let mut pcm = vec![0; 480];
    let mut out = Vec::with_capacity(4000);
    for from in RATES {
        for to in RATES {
            let mut resampler = Resampler::new(from, to).unwrap();
            let input = &pcm[..from as usize / 100];
            let taken = allocations(|| {
                for _ in 0..20 {
                    out.clear();
                    resampler.process(input, &mut out);
                }
            });
            assert_eq!(taken, 0, "{from} to {to}");
        }
    }
    let (mut mixer, mut gain, mut noise) = (Mixer::new(480), Gain::new(), Generator::new(1));
    let mut ring = TonePlayer::new(Tone::Ring, "DE", 48_000);
    let (mut digits, mut detector) = (DtmfPlayer::new(48_000), DtmfDetector::new(48_000));
    let mut events = Vec::with_capacity(64);
    let taken = allocations(|| {
        for period in 0..200 {
            if period % 40 == 0 {
                digits.push('5', 60);
                gain.set_db(-3.0);
                noise.describe(&Description::white(40));
            }
            ring.fill(&mut pcm);
            noise.fill(&mut pcm);
            digits.fill(&mut pcm);
            detector.detect(&pcm, &mut events);
            gain.apply(&mut pcm);
            mixer.begin(480);
            mixer.add(&pcm);
            mixer.all(&mut pcm);
        }
    });
    assert_eq!(taken, 0);
}
