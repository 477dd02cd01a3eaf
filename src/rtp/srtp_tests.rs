//! SRTP as a dialogue of one protector and one unprotector.

use super::super::packet::Header;
use super::super::rtcp;
use super::*;

fn keys(profile: Profile, seed: u64) -> Keys {
    Keys::random(profile, &mut Chance::from_number(seed))
}

fn sealed(protector: &mut Protector, ssrc: u32, sequence: u16) -> Vec<u8> {
    let mut bytes = [0; 256];
    let header = Header { payload_type: 8, sequence, timestamp: 160, ssrc, ..Header::default() };
    let length = header.write(&[0x55; 160], &mut bytes).unwrap();
    let length = protector.protect(&mut bytes, length).unwrap();
    bytes[..length].to_vec()
}

fn opened(unprotector: &mut Unprotector, packet: &[u8]) -> Result<u16, Refusal> {
    let mut bytes = packet.to_vec();
    let (length, _) = unprotector.unprotect(&mut bytes)?;
    let packet = Packet::parse(&bytes[..length]).unwrap();
    assert_eq!(packet.payload, [0x55; 160]);
    Ok(packet.header.sequence)
}

#[test]
fn every_profile_carries_rtp_and_rtcp() {
    for profile in Profile::ALL {
        assert_eq!(Profile::from_name(profile.as_str()), Some(profile));
        let mut ours = Protector::new(keys(profile, 1)).unwrap();
        let mut theirs = Unprotector::new(keys(profile, 1)).unwrap();
        let packet = sealed(&mut ours, 7, 100);
        assert!(packet.len() <= 172 + MAX_OVERHEAD);
        assert_ne!(packet[12..172], [0x55; 160]);
        assert_eq!(opened(&mut theirs, &packet), Ok(100));

        let mut report = [0; 128];
        let length = rtcp::Writer::new(&mut report).report(7, None, &[]).cname(7, "x").finish().unwrap();
        let plain = report[..length].to_vec();
        let length = ours.protect_rtcp(&mut report, length).unwrap();
        let mut copy = report;
        let opened = theirs.unprotect_rtcp(&mut report[..length]).unwrap();
        assert_eq!(report[..opened], plain);
        assert_eq!(theirs.unprotect_rtcp(&mut copy[..length]), Err(Refusal::Replay));
        copy[length - 1] ^= 1;
        assert!(theirs.unprotect_rtcp(&mut copy[..length]).is_err());
        // A BYE that claims to be sent without encryption, with a made-up tag.
        let mut forged = vec![0x81, 203, 0, 1, 0, 0, 0, 7, 0, 0, 0, 9];
        forged.extend([0; 10]);
        assert_eq!(theirs.unprotect_rtcp(&mut forged), Err(Refusal::Authentication));
    }
}

#[test]
fn forgeries_and_replays_are_refused_and_change_nothing() {
    let mut ours = Protector::new(keys(Profile::AesCm128HmacSha1_80, 1)).unwrap();
    let mut theirs = Unprotector::new(keys(Profile::AesCm128HmacSha1_80, 1)).unwrap();
    // A forgery with a far sequence number comes first: it must not move any window.
    let mut forged = sealed(&mut Protector::new(keys(Profile::AesCm128HmacSha1_80, 2)).unwrap(), 7, 30_000);
    assert_eq!(opened(&mut theirs, &forged), Err(Refusal::Authentication));
    let packets: Vec<_> = (1..=200).map(|sequence| sealed(&mut ours, 7, sequence)).collect();
    for packet in &packets {
        assert!(opened(&mut theirs, packet).is_ok());
    }
    assert_eq!(opened(&mut theirs, &packets[199]), Err(Refusal::Replay));
    assert_eq!(opened(&mut theirs, &packets[0]), Err(Refusal::Replay), "older than the window");
    forged = sealed(&mut ours, 7, 201);
    forged[20] ^= 1;
    assert_eq!(opened(&mut theirs, &forged), Err(Refusal::Authentication));
    forged[20] ^= 1;
    assert_eq!(opened(&mut theirs, &forged), Ok(201));
}

#[test]
fn a_call_goes_on_past_65536_packets_with_reordering() {
    for profile in Profile::ALL {
        let mut ours = Protector::new(keys(profile, 1)).unwrap();
        let mut theirs = Unprotector::new(keys(profile, 1)).unwrap();
        let mut held = None;
        for count in 0..140_000_u32 {
            // Only the neighbourhood of the turns and every 500th packet, to be quick: none is lost for the cipher.
            let near = (count as u16).wrapping_add(20) < 40;
            if !near && count % 500 != 0 {
                continue;
            }
            let packet = sealed(&mut ours, 7, count as u16);
            if near && count % 7 == 3 {
                held = Some(packet);
                continue;
            }
            assert_eq!(opened(&mut theirs, &packet), Ok(count as u16));
            if let Some(late) = held.take() {
                assert!(opened(&mut theirs, &late).is_ok(), "{count}");
            }
        }
    }
}

/// A pair whose stream has turned over twice.
fn turned(profile: Profile) -> (Protector, Unprotector) {
    let mut ours = Protector::new(keys(profile, 1)).unwrap();
    let mut theirs = Unprotector::new(keys(profile, 1)).unwrap();
    for count in (100..131_072 + 300).step_by(200) {
        assert!(opened(&mut theirs, &sealed(&mut ours, 7, count as u16)).is_ok());
    }
    (ours, theirs)
}

#[test]
fn after_an_offer_with_the_same_key_the_counter_goes_on() {
    let (mut ours, mut theirs) = turned(Profile::AesCm128HmacSha1_80);
    theirs.rekey(keys(Profile::AesCm128HmacSha1_80, 1), false).unwrap();
    assert!(opened(&mut theirs, &sealed(&mut ours, 7, 400)).is_ok());
}

#[test]
fn a_new_key_for_the_same_stream_may_keep_the_counter() {
    for profile in Profile::ALL {
        let (mut ours, mut theirs) = turned(profile);
        theirs.rekey(keys(profile, 2), false).unwrap();
        // What was under way with the old key is still heard.
        assert_eq!(opened(&mut theirs, &sealed(&mut ours, 7, 400)), Ok(400));
        ours.rekey(keys(profile, 2)).unwrap();
        for sequence in 401..600 {
            assert_eq!(opened(&mut theirs, &sealed(&mut ours, 7, sequence)), Ok(sequence));
        }
        // The old key is over.
        let (mut old, _) = turned(profile);
        assert_eq!(opened(&mut theirs, &sealed(&mut old, 7, 700)), Err(Refusal::Authentication));
    }
}

#[test]
fn a_new_key_for_the_same_stream_may_reset_the_counter() {
    let (_, mut theirs) = turned(Profile::AesCm128HmacSha1_80);
    theirs.rekey(keys(Profile::AesCm128HmacSha1_80, 2), true).unwrap();
    let mut ours = Protector::new(keys(Profile::AesCm128HmacSha1_80, 2)).unwrap();
    for sequence in 401..600 {
        assert_eq!(opened(&mut theirs, &sealed(&mut ours, 7, sequence)), Ok(sequence));
    }
}

#[test]
fn the_same_key_at_a_new_address_may_reset_the_counter_once() {
    let (_, mut theirs) = turned(Profile::AesCm128HmacSha1_80);
    let mut ours = Protector::new(keys(Profile::AesCm128HmacSha1_80, 1)).unwrap();
    let first = sealed(&mut ours, 7, 401);
    assert!(opened(&mut theirs, &first).is_err(), "not before the offer");
    theirs.rekey(keys(Profile::AesCm128HmacSha1_80, 1), true).unwrap();
    assert_eq!(opened(&mut theirs, &first), Ok(401));
    assert_eq!(opened(&mut theirs, &first), Err(Refusal::Replay));
    assert_eq!(opened(&mut theirs, &sealed(&mut ours, 7, 402)), Ok(402));
}

#[test]
fn new_streams_are_taken_and_their_number_is_bounded() {
    let mut theirs = Unprotector::new(keys(Profile::AeadAes128Gcm, 1)).unwrap();
    for ssrc in 0..100 {
        let mut ours = Protector::new(keys(Profile::AeadAes128Gcm, 1)).unwrap();
        assert!(opened(&mut theirs, &sealed(&mut ours, ssrc, 9)).is_ok());
    }
    assert_eq!(theirs.current.streams.len(), MAX_STREAMS);
    // Forged streams leave nothing behind.
    let mut forger = Protector::new(keys(Profile::AeadAes128Gcm, 2)).unwrap();
    for ssrc in 0..1000 {
        assert!(opened(&mut theirs, &sealed(&mut forger, ssrc, 9)).is_err());
    }
    assert!(theirs.current.unknown_failures < MAX_UNKNOWN);
    let mut ours = Protector::new(keys(Profile::AeadAes128Gcm, 1)).unwrap();
    assert_eq!(opened(&mut theirs, &sealed(&mut ours, 5000, 10)), Ok(10));
}

#[test]
fn keys_have_their_length_and_stay_out_of_debug_output() {
    assert_eq!(
        Keys::from_inline(Profile::AeadAes128Gcm, &[1; 30]),
        Err(BadKeys::Length { expected: 28, found: 30 })
    );
    let keys = Keys::from_inline(Profile::AesCm128HmacSha1_80, &[0xab; 30]).unwrap();
    assert_eq!(keys.inline(), [0xab; 30]);
    assert_eq!(format!("{keys:?}"), "Keys(AES_CM_128_HMAC_SHA1_80)");
}

#[test]
fn garbage_is_malformed_or_unauthenticated() {
    let mut theirs = Unprotector::new(keys(Profile::AesCm128HmacSha1_32, 1)).unwrap();
    let mut chance = Chance::from_number(5);
    for _ in 0..5_000 {
        let mut bytes = vec![0; chance.below(80) as usize];
        chance.fill(&mut bytes);
        if let Some(first) = bytes.first_mut() {
            *first = 0x80 | *first & 0x3f;
        }
        assert!(theirs.unprotect(&mut bytes).is_err());
        assert!(theirs.unprotect_rtcp(&mut bytes).is_err());
    }
}
