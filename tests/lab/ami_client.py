"""A program that drives the phone as it would an Asterisk, by panoramisk: one call from its beginning to its end.

ami_client.py HOST CHANNEL EXTEN CONTEXT — prints what it was told as one JSON object."""

import asyncio
import json
import sys

from panoramisk import Manager

host, channel, exten, context = sys.argv[1:]
WANTED = ("Newchannel", "DialBegin", "Newstate", "DialEnd", "OriginateResponse", "BridgeEnter", "BridgeLeave", "Hangup")


async def main():
    loop = asyncio.get_running_loop()
    manager = Manager(loop=loop, host=host, port=5038, username="measoft", secret="courier-42", ping_delay=1)
    events, news = [], asyncio.Event()

    def note(_, message):
        if message.event in WANTED:
            events.append(dict(message))
            news.set()

    async def until(name, count):
        while sum(event["Event"] == name for event in events) < count:
            news.clear()
            await asyncio.wait_for(news.wait(), 20)

    manager.register_event("*", note)
    await manager.connect()
    while not manager.authenticated:
        await asyncio.sleep(0.05)
    action = {"Action": "Originate", "Channel": channel, "Exten": exten, "Context": context, "Priority": 1,
              "Async": "true", "Timeout": 20000}
    queued = await manager.send_action(action)
    await until("BridgeEnter", 2)
    await asyncio.sleep(3)
    pong = await manager.send_action({"Action": "Ping"})
    listed = await manager.send_action({"Action": "CoreShowChannels"}, as_list=True)
    channels = [one.Channel for one in listed if one.event == "CoreShowChannel"]
    gone = await manager.send_action({"Action": "Hangup", "Channel": channels[-1]})
    await until("Hangup", 2)
    refused = await manager.send_action({"Action": "Command", "Command": "core show version"})
    answers = {"queued": queued, "pong": pong, "gone": gone, "refused": refused}
    # To an Originate the library gives the answer and the OriginateResponse that belongs to it.
    plain = {name: [dict(one) for one in it] if isinstance(it, list) else dict(it) for name, it in answers.items()}
    print(json.dumps({"events": events, "channels": channels} | plain))
    manager.close()


asyncio.run(main())
