//! Sound devices through `cpal`: ALSA, and PulseAudio where it is built in.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use cpal::traits::{DeviceTrait, HostTrait, StreamTrait};
use cpal::{
    BufferSize, Device, ErrorKind, FromSample, Host, Sample, SampleFormat, SizedSample, Stream, StreamConfig,
    SupportedBufferSize,
};

use super::port::{Gauge, Microphone, SoundPort, Speaker};
use super::{Backend, Opened, SoundError, Trouble};
use crate::media::Terminal;

/// Rates that the engine can run a terminal at, the one that costs the least resampling of wide-band calls first.
const RATES: [u32; 3] = [48_000, 16_000, 8_000];
/// The prefix of device names that go to a PulseAudio server.
const PULSE: &str = "pulse:";

/// The devices that the configuration names.
pub struct CpalBackend {
    /// Microphone; `default` is the system's choice.
    pub input: String,
    /// Loudspeaker.
    pub output: String,
    /// A loudspeaker of its own for ringing.
    pub ring: Option<String>,
}

impl Backend for CpalBackend {
    fn look(&self) -> Result<(), SoundError> {
        let _silenced = alsa::Output::local_error_handler();
        find(&self.output, true)?;
        find(&self.input, false)?;
        self.ring.as_ref().map_or(Ok(()), |ring| find(ring, true).map(drop))
    }

    fn open(&self, troubles: SyncSender<Trouble>) -> Result<Opened, SoundError> {
        // libasound prints to stderr by itself whenever it probes; its words come back as errors anyway.
        let _silenced = alsa::Output::local_error_handler();
        let output = find(&self.output, true)?;
        let input = find(&self.input, false)?;
        let (rate, speaker_config, block) = choose(&output, true, None)?;
        let (_, microphone_config, _) = choose(&input, false, Some(rate))?;
        let mut ends = SoundPort::pair(rate, block);
        let complaints = Complaints { troubles, gauge: ends.port.gauge() };
        let mut keep = vec![
            play(&output, &speaker_config, ends.speaker, complaints.clone())?,
            capture(&input, &microphone_config, ends.microphone, complaints.clone())?,
        ];
        let ring = match &self.ring {
            Some(name) => {
                let device = find(name, true)?;
                let (rate, config, block) = choose(&device, true, None)?;
                keep.push(play(&device, &config, ends.port.add_ringer(rate, block), complaints)?);
                Some(rate)
            }
            None => None,
        };
        for stream in &keep {
            stream.play().map_err(|error| blame(&self.output, &error))?;
        }
        Ok(Opened {
            terminal: Terminal::Device { rate, ring },
            port: Some(ends.port),
            output: None,
            keep: Box::new(keep),
        })
    }
}

fn find(name: &str, output: bool) -> Result<Device, SoundError> {
    let (host, name) = match name.strip_prefix(PULSE) {
        Some(name) => (pulse()?, name),
        None => (alsa_host()?, name),
    };
    let missing = || SoundError::Missing { device: name.to_owned(), known: known(&host, output) };
    if name == "default" {
        let device = if output { host.default_output_device() } else { host.default_input_device() };
        return device.ok_or_else(missing);
    }
    let devices = host.devices().map_err(|error| blame(name, &error))?;
    devices.into_iter().find(|device| names(device).iter().any(|known| known == name)).ok_or_else(missing)
}

/// ALSA asked for by name: the default host panics where the machine has no ALSA configuration.
fn alsa_host() -> Result<Host, SoundError> {
    if !libasound::is_present() {
        return Err(SoundError::NoAlsa);
    }
    cpal::host_from_id(cpal::HostId::Alsa).map_err(|error| blame("alsa", &error))
}

#[cfg(feature = "pulseaudio")]
fn pulse() -> Result<Host, SoundError> {
    cpal::host_from_id(cpal::HostId::PulseAudio).map_err(|error| blame("pulse", &error))
}

#[cfg(not(feature = "pulseaudio"))]
fn pulse() -> Result<Host, SoundError> {
    Err(SoundError::NoPulse)
}

/// What a device may be called by: its identifier with or without the host, and its name.
fn names(device: &Device) -> Vec<String> {
    let mut names = Vec::new();
    if let Ok(id) = device.id() {
        let id = id.to_string();
        if let Some((_, bare)) = id.split_once(':') {
            names.push(bare.to_owned());
        }
        names.push(id);
    }
    if let Ok(description) = device.description() {
        names.push(description.name().to_owned());
    }
    names
}

fn known(host: &Host, output: bool) -> Vec<String> {
    let Ok(devices) = host.devices() else { return Vec::new() };
    devices
        .filter(|device| if output { device.supports_output() } else { device.supports_input() })
        .filter_map(|device| names(&device).into_iter().next())
        .take(16)
        .collect()
}

/// A format that the device offers: its rate (the given one, if any), its configuration and samples per callback.
fn choose(device: &Device, output: bool, rate: Option<u32>) -> Result<(u32, Format, usize), SoundError> {
    let name = names(device).into_iter().next().unwrap_or_default();
    let refuse = |error: cpal::Error| blame(&name, &error);
    let offers: Vec<_> = if output {
        device.supported_output_configs().map_err(refuse)?.collect()
    } else {
        device.supported_input_configs().map_err(refuse)?.collect()
    };
    let rates = rate.map_or(RATES.to_vec(), |rate| vec![rate]);
    for rate in rates {
        let fits = |offer: &&cpal::SupportedStreamConfigRange| {
            offer.min_sample_rate() <= rate
                && rate <= offer.max_sample_rate()
                && matches!(offer.sample_format(), SampleFormat::I16 | SampleFormat::F32 | SampleFormat::I32)
        };
        let best = offers
            .iter()
            .filter(fits)
            .min_by_key(|offer| (offer.sample_format() != SampleFormat::I16, offer.channels()));
        if let Some(offer) = best {
            // 20 ms, or what the device can do: some have one size alone (ALSA's dmix: 1024).
            let block = match *offer.buffer_size() {
                SupportedBufferSize::Range { min, max } if min <= max => (rate / 50).clamp(min, max),
                _ => rate / 50,
            };
            let config = StreamConfig {
                channels: offer.channels(),
                sample_rate: rate,
                buffer_size: BufferSize::Fixed(block),
            };
            return Ok((rate, Format { config, sample: offer.sample_format() }, block as usize));
        }
    }
    Err(SoundError::NoRate { device: name })
}

struct Format {
    config: StreamConfig,
    sample: SampleFormat,
}

fn play(
    device: &Device,
    format: &Format,
    speaker: Speaker,
    complaints: Complaints,
) -> Result<Stream, SoundError> {
    match format.sample {
        SampleFormat::I16 => play_as::<i16>(device, &format.config, speaker, complaints),
        SampleFormat::I32 => play_as::<i32>(device, &format.config, speaker, complaints),
        _ => play_as::<f32>(device, &format.config, speaker, complaints),
    }
}

fn play_as<S: SizedSample + FromSample<i16>>(
    device: &Device,
    config: &StreamConfig,
    mut speaker: Speaker,
    complaints: Complaints,
) -> Result<Stream, SoundError> {
    let channels = usize::from(config.channels.max(1));
    let callback = move |samples: &mut [S], _: &cpal::OutputCallbackInfo| {
        speaker.block(samples.len() / channels);
        for frame in samples.chunks_mut(channels) {
            frame.fill(S::from_sample(speaker.pull()));
        }
    };
    device
        .build_output_stream(*config, callback, move |error| complaints.take(&error), None)
        .map_err(|error| blame("output", &error))
}

fn capture(
    device: &Device,
    format: &Format,
    microphone: Microphone,
    complaints: Complaints,
) -> Result<Stream, SoundError> {
    match format.sample {
        SampleFormat::I16 => capture_as::<i16>(device, &format.config, microphone, complaints),
        SampleFormat::I32 => capture_as::<i32>(device, &format.config, microphone, complaints),
        _ => capture_as::<f32>(device, &format.config, microphone, complaints),
    }
}

fn capture_as<S: SizedSample>(
    device: &Device,
    config: &StreamConfig,
    mut microphone: Microphone,
    complaints: Complaints,
) -> Result<Stream, SoundError>
where
    i16: FromSample<S>,
{
    let channels = usize::from(config.channels.max(1));
    let callback = move |samples: &[S], _: &cpal::InputCallbackInfo| {
        for frame in samples.chunks(channels) {
            if let Some(first) = frame.first() {
                microphone.push(i16::from_sample(*first));
            }
        }
    };
    device
        .build_input_stream(*config, callback, move |error| complaints.take(&error), None)
        .map_err(|error| blame("input", &error))
}

/// Where the sound system's complaints about a stream go.
#[derive(Clone)]
struct Complaints {
    troubles: SyncSender<Trouble>,
    gauge: Arc<Gauge>,
}

impl Complaints {
    /// Tells what ends a stream, and counts what the device gets over.
    fn take(&self, error: &cpal::Error) {
        match error.kind() {
            ErrorKind::DeviceNotAvailable | ErrorKind::StreamInvalidated | ErrorKind::HostUnavailable => {
                // The queue holds the first complaint already if it is full.
                let _ = self.troubles.try_send(Trouble { why: error.to_string() });
            }
            ErrorKind::Xrun => self.gauge.was_late(),
            _ => {}
        }
    }
}

fn blame(device: &str, error: &cpal::Error) -> SoundError {
    SoundError::Refused { device: device.to_owned(), why: error.to_string() }
}
