//! Samples in, samples out.
//!
//! This room owns everything that happens to sound between the network's payload and the sound card's period:
//! codecs, loss concealment, time stretching, comfort noise, resampling, mixing, gain, level, tones, DTMF and
//! WAV. Sound is mono 16-bit linear PCM at 8, 16, 24, 32, 44.1 or 48 kHz; a frame is a slice.
//!
//! It must not know RTP, packets, calls, devices, threads or clocks. Nothing here allocates in steady state:
//! whoever calls owns the vectors and uses them again.

pub mod codec;
pub mod comfort;
pub mod conceal;
mod dot;
pub mod dtmf;
mod eights;
pub mod g711;
pub mod g722;
pub mod gain;
pub mod level;
pub mod mix;
pub mod opus;
mod pitch;
pub mod resample;
pub mod similarity;
pub mod speech;
pub mod stretch;
pub mod tone_table;
pub mod tones;
pub mod wav;
