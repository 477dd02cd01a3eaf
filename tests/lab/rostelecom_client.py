"""A CRM that was written for Rostelecom's virtual PBX and asks the phone instead, after a call has ended.

rostelecom_client.py BASE SESSION ADDRESS FILE — saves the recording there, prints what it was told as one JSON object."""

import csv
import gzip
import hashlib
import io
import json
import sys
import time
import urllib.request

CLIENT, KEY = "000003C405E6525C64C184258C44EC99", "00000716ABDA6D4DFF10F82BCBBFC532"
base, session, address, file = sys.argv[1:]


def ask(method, body):
    body = json.dumps(body)
    sign = hashlib.sha256((CLIENT + body + KEY).encode()).hexdigest()
    headers = {"Content-Type": "application/json", "X-Client-ID": CLIENT, "X-Client-Sign": sign}
    with urllib.request.urlopen(urllib.request.Request(base + method, body.encode(), headers), timeout=20) as answer:
        return answer.read()


def link():
    for _ in range(60):
        answer = json.loads(ask("get_record", {"session_id": session, "ip_adress": address}))
        if str(answer["result"]) == "0":
            return answer["url"]
        time.sleep(0.5)
    sys.exit(f"no recording: {answer}")


info = json.loads(ask("call_info", {"session_id": session}))["info"]
with urllib.request.urlopen(link(), timeout=20) as sound, open(file, "wb") as out:
    out.write(sound.read())
period = {"date_start": "2020-01-01 00:00:00", "date_end": "2100-01-01 00:00:00", "direction": 3, "state": 1}
order = json.loads(ask("domain_call_history", period))["order_id"]
table = gzip.decompress(ask("download_call_history", {"order_id": order})).decode()
rows = list(csv.DictReader(io.StringIO(table), delimiter=";"))
print(json.dumps({"info": info, "rows": rows}))
