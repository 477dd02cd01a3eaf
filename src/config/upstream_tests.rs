//! What is said of a mistake in `[[upstream]]`, and of keys that belong to another kind.

use super::tests::findings;
use super::*;

#[test]
fn each_mistake_of_an_upstream_has_its_cure() {
    let secret = "whsec_c29tZSAzMiByYW5kb20gYnl0ZXMgaW4gYmFzZTY0";
    let right = format!(
        "[[upstream]]\nname = \"crm\"\nkind = \"webhook\"\nurl = \"https://crm.example/planted\"\nsecret = \"{secret}\"\n"
    );
    assert_eq!(findings(&right), Vec::<String>::new());
    let config = Config::parse(&right, "t.toml").expect("right");
    let shown = config.masked().to_string();
    assert!(!shown.contains("planted") && !shown.contains("c29tZS"), "{shown}");
    assert!(shown.contains("\"url\":\"https://crm.example/***\""), "{shown}");
    for (from, to, expected) in [
        ("\"webhook\"", "\"bitrix42\"", "t.toml:3: kind can't be \"bitrix42\"; did you mean \"bitrix24\"?"),
        (
            "https://",
            "mqtts://",
            "t.toml:4: upstream crm is of kind \"webhook\", and url is for another; write https",
        ),
        ("\"webhook\"", "\"webhok\"", "t.toml:3: kind can't be \"webhok\"; did you mean \"webhook\"?"),
        ("https://", "crm://", "t.toml:4: url is no URL that can be used; write a URL such as"),
        (
            "https://",
            "http://",
            "t.toml:4: warning: upstream crm is told numbers and names of callers in clear",
        ),
        (secret, "whsec_short", "t.toml:5: secret is not whsec_ and 24 to 64 bytes in base64; make one with"),
        (secret, "c29tZSAzMiByYW5kb20gYnl0ZXMgaW4gYmFzZTY0", "t.toml:5: secret is not whsec_"),
        ("secret = ", "ca_file = ", "t.toml:1: upstream crm has no secret"),
        ("secret = ", "lines = [\"office\"]\nsecret = ", "t.toml:5: there is no line office; the lines are:"),
        (
            "secret = ",
            "filter = \"x\"\nsecret = ",
            "t.toml:5: filter is text; write a list in [ ] of a condition",
        ),
        ("secret = ", "filter = [\"party=out\"]\nsecret = ", "write \"inside\" or \"outside\" behind party"),
        ("secret = ", "events = []\nsecret = ", "t.toml:5: events is empty: nothing would be told"),
        ("secret = ", "events = [\"Call\"]\nsecret = ", "t.toml:5: events has \"Call\" in it; write types"),
        (
            "secret = ",
            "redact = [\"digits\"]\nsecret = ",
            "t.toml:5: redact can't be \"digits\"; write one of",
        ),
        ("secret = ", "expire_after = \"8d\"\nsecret = ", "t.toml:5: expire_after is \"8d\", out of range"),
    ] {
        let all = findings(&right.replacen(from, to, 1));
        assert!(all.iter().any(|it| it.contains(expected)), "expected {expected}\n{all:#?}");
        assert_eq!(all.len(), 1, "{all:#?}");
        assert!(!all.concat().contains("planted"), "{all:#?}");
    }
    let twice = findings(&format!("{right}{right}"));
    assert_eq!(twice, ["t.toml:7: there is an upstream crm already; give each upstream its own name"]);
}

#[test]
fn each_kind_of_upstream_has_its_own_keys() {
    let head =
        |kind: &str| format!("[[upstream]]\nname = \"x\"\nkind = \"{kind}\"\nurl = \"https://h.example\"\n");
    let secret = "secret = \"whsec_c29tZSAzMiByYW5kb20gYnl0ZXMgaW4gYmFzZTY0\"\n";
    let action = "[upstream.action_url]\nincoming_call = \"/a?from=$remote\"\n";
    let link = "[upstream.slack]\nlink = \"https://crm.example/?n=$number\"\n";
    let body = "[upstream.webitel]\non_disconnect = '{\"n\": $caller_id_number}'\n";
    let token = "h.example/ext-event/f2a8vdrfae0s1ku5d2rj3iximjf3twyz";
    let ringme = "[upstream.ringme]\ndial_in = \"/e/f2a8vdrfae0s1ku5d2rj3iximjf3twyz\"\n";
    let bitrix24 =
        "[upstream.bitrix24]\nclient_id = \"local.1\"\nclient_secret = \"s\"\nrefresh_token_file = \"f\"\n";
    let rostelecom = "[upstream.rostelecom]\nclient_id = \"0C\"\nkey = \"0D\"\n";
    let answers = rostelecom.replace("0D", "0D0D0D0D") + "answer = true\n";
    for right in [
        format!("{}{secret}", head("webhook")),
        format!("{}{secret}authorization_file = \"a\"\n", head("webhook")),
        head("slack"),
        format!("{}{link}", head("slack")),
        format!("{}authorization = \"Basic YTpi\"\n{action}", head("action-url")),
        head("webitel"),
        head("mqtt").replace("https", "mqtts"),
        format!(
            "{}[upstream.mqtt]\nversion = \"3.1.1\"\nuser = \"u\"\npassword_file = \"f\"\n",
            head("mqtt").replace("https", "mqtts")
        ),
        format!("{}{body}", head("webitel")),
        format!("{}authorization = \"Basic YTpi\"\n", head("ringme")).replace("h.example", token),
        format!("{}{ringme}", head("ringme")),
        head("ringme").replace("https://h.example", "http://127.0.0.1:8081/guessed"),
        format!("{}{rostelecom}", head("rostelecom")),
        format!("{}[upstream.bitrix24.controller]\nkey_file = \"f\"\n", head("bitrix24")),
        format!("{}{bitrix24}users = [{{ who = \"office\", user_id = 67 }}]\n", head("bitrix24")),
        format!("{}{bitrix24}cost_per_minute = \"0.05\"\ncost_currency = \"EUR\"\n", head("bitrix24")),
        format!("{}{rostelecom}", head("rostelecom")).replace("key =", "key_file ="),
        format!("{}{answers}allow = [\"192.0.2.7\", \"2001:db8::/32\"]\n", head("rostelecom")),
    ] {
        assert_eq!(findings(&right), Vec::<String>::new(), "{right}");
    }
    let broker = |keys: &str| format!("{}[upstream.mqtt]\n{keys}\n", head("mqtt").replace("https", "mqtts"));
    for (text, expected) in [
        (
            head("bitrix24"),
            "t.toml:3: upstream x has no way into its portal; add [upstream.bitrix24] with client_id",
        ),
        (
            format!("{}{bitrix24}cost_per_minute = \"1,5\"\n", head("bitrix24")),
            "t.toml:9: cost_per_minute is no price; write a decimal number",
        ),
        (
            format!("{}{bitrix24}cost_currency = \"EUR\"\n", head("bitrix24")),
            "t.toml:9: cost_currency says nothing alone; have both",
        ),
        (
            format!("{}{bitrix24}users = [{{ who = \"office\" }}]\n", head("bitrix24")),
            "t.toml:9: office is no user of the portal; write user_id, or phone_inner",
        ),
        (
            format!("{}{bitrix24}sign_in = \"http://h.example/\"\n", head("bitrix24")),
            "t.toml:9: sign_in gets the application's key in clear; write https://",
        ),
        (
            format!("{}redact = [\"numbers\"]\n{bitrix24}", head("bitrix24")),
            "t.toml:5: redact takes out the numbers by which Bitrix24 knows who calls",
        ),
        (
            head("mqtt"),
            "t.toml:4: upstream x is of kind \"mqtt\", and url is for another; write mqtts://HOST",
        ),
        (
            broker("[upstream.mqtt.commands]\nallow = [\"call\"]"),
            "t.toml:7: allow lets commands in, and nobody is named who may give them; add secret or secret_file, or",
        ),
        (
            broker(&format!("[upstream.mqtt.commands]\nallow = [\"call\"]\ntrust_broker = true\n{secret}")),
            "t.toml:8: trust_broker is there beside secret; remove one of the two",
        ),
        (
            broker("[upstream.mqtt.commands]\nallow = [\"call\"]\nsecret = \"whsec_short\""),
            "t.toml:8: secret is not whsec_ and 24 to 64 bytes in base64",
        ),
        (broker("topic = \"a//b\""), "t.toml:6: topic has an empty level; write levels with / between them"),
        (broker("topic = \"a/#\""), "t.toml:6: topic has a character that no topic has"),
        (broker("topic = \"a/$name\""), "t.toml:6: topic has a $ that does not begin $serial"),
        (broker("keep_alive = \"1s\""), "t.toml:6: keep_alive is \"1s\", out of range"),
        (
            broker("version = \"3.1.1\"\npassword = \"long enough\""),
            "t.toml:7: password is there without user; add user: MQTT 3.1.1 has no other way",
        ),
        (
            format!("{}[upstream.mqtt]\n", head("slack")),
            "t.toml:5: upstream x is of kind \"slack\", and mqtt belongs",
        ),
        (
            format!("{}{secret}", head("slack")),
            "t.toml:5: upstream x is of kind \"slack\", and secret belongs to kind \"webhook\"; remove one of",
        ),
        (
            format!("{}authorization_file = \"a\"\n", head("slack")),
            "t.toml:5: upstream x is of kind \"slack\", and authorization_file belongs to kind \"webhook\", \"action-url\", \"webitel\", \"ringme\";",
        ),
        (
            format!("{}{secret}{link}", head("webhook")),
            "t.toml:6: upstream x is of kind \"webhook\", and slack belongs",
        ),
        (
            format!("{}{link}", head("action-url")).replace("slack", "action_url"),
            "link is not a key of [upstream.action_url]",
        ),
        (head("action-url"), "t.toml:3: upstream x has no [upstream.action_url]: it would be told nothing"),
        (
            format!("{}{action}", head("action-url")).replace("h.example", "h.example/path"),
            "t.toml:4: url has a path, which belongs to each of [upstream.action_url]",
        ),
        (
            format!("{}{action}", head("action-url")).replace("$remote", "$remot"),
            "t.toml:6: incoming_call has $remot in it, which nothing stands for; did you mean $remote?",
        ),
        (
            format!("{}{action}", head("action-url")).replace("$remote", "$mac"),
            "t.toml:6: incoming_call has $mac in it, which nothing stands for; write $serial:",
        ),
        (
            format!("{}{action}", head("action-url")).replace("\"/a", "\"https://h.example/a"),
            "t.toml:6: incoming_call does not begin with /; write what stands behind the host",
        ),
        (
            format!("{}{action}", head("action-url")).replace("$remote", "a b"),
            "t.toml:6: incoming_call has a character that no URL has; write the path in ASCII",
        ),
        (
            format!("{}{link}", head("slack")).replace("https://crm.example/", "https://$number/"),
            "t.toml:6: link is no URL that can be used; write https://HOST/ in front of the first variable",
        ),
        (
            format!("{}redact = [\"numbers\"]\n{link}", head("slack")),
            "t.toml:5: redact takes out what link has as a variable",
        ),
        (
            format!("{}{body}", head("webitel")).replace("id_number", "id_numer"),
            "t.toml:6: on_disconnect has $caller_id_numer in it, which nothing stands for; did you mean $caller_id_number?",
        ),
        (
            format!("{}{body}", head("webitel")).replace("}'", "'"),
            "t.toml:6: on_disconnect is no JSON: EOF while parsing an object",
        ),
        (
            head("ringme").replace("h.example", "h.example/cid/807/queue/33334"),
            "t.toml:4: warning: url can be guessed: whoever does sends events of his own there; have 16 random bytes",
        ),
        (
            format!("{}{ringme}hangup = \"/cid/807/queue/33334\"\n", head("ringme")),
            "t.toml:5: warning: hangup can be guessed",
        ),
        (
            format!("{}{ringme}", head("ringme")).replace("h.example", token),
            "t.toml:4: url has a path, which belongs to each of [upstream.ringme]",
        ),
        (
            format!("{}{ringme}", head("ringme")).replace("twyz", "$call_id"),
            "t.toml:6: dial_in has a variable in it; write the path as it is",
        ),
        (head("rostelecom"), "t.toml:3: upstream x has no client_id or no key"),
        (
            format!("{}{answers}", head("rostelecom")),
            "t.toml:8: nobody may ask; add allow = [\"192.0.2.7\"], the addresses of the CRM",
        ),
        (
            format!("{}{answers}allow = [\"0.0.0.0/0\"]\n", head("rostelecom")),
            "t.toml:9: warning: the whole world may ask: a request that is overheard",
        ),
        (
            format!("{}{answers}allow = [\"192.0.2.7\"]\n", head("rostelecom")).replace("0D0D0D0D", "0D0D"),
            "t.toml:7: the key of the upstream is shorter than 8 characters",
        ),
        (
            format!("{}redact = [\"names\"]\n{answers}allow = [\"192.0.2.7\"]\n", head("rostelecom")),
            "t.toml:5: redact takes out what call_info and the history would tell whoever asks",
        ),
        (
            format!("{}{rostelecom}", head("rostelecom")).replace("client_id = \"0C\"\n", ""),
            "t.toml:3: upstream x has no client_id or no key",
        ),
        (
            format!("{}[upstream.ringme]\nextension = \"a b\"\n", head("ringme")),
            "t.toml:6: extension is no such name; write 1 to 128 visible ASCII",
        ),
        (
            format!("{}{secret}authorization = \"Bearer ü\"\n", head("webhook")),
            "t.toml:6: authorization has a character that no header has; write it in ASCII",
        ),
    ] {
        let all = findings(&text);
        assert!(all.iter().any(|it| it.contains(expected)), "{text}\nexpected {expected}\n{all:#?}");
        let errors = all.iter().filter(|it| !it.contains(": warning: ")).count();
        assert_eq!(errors, usize::from(!expected.contains(": warning: ")), "{text}\n{all:#?}");
    }
}
