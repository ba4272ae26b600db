"""What iSymphony says and takes."""

from bridge.backends.isymphony.actions import Action
from bridge.backends.isymphony.options import IsymphonyOptions
from bridge.backends.session import Answer
from bridge.options import Secret
from tests.backends.sample import SampleCommand, Samples

# iSymphony developer documentation: one of each documented kind, a dial (of which only the name is known), others.

ISYMPHONY_CORE = "11111111-2222-4333-8444-555555555555"
ISYMPHONY_LOGIN = (
    f'{{"type":"userLogin","time":1710000000123,"coreServerId":"{ISYMPHONY_CORE}",'
    '"userId":"aaaaaaaa-0001-4000-8000-000000000001","username":"7001",'
    '"userLoginId":"bbbbbbbb-0001-4000-8000-000000000001","ip":"192.0.2.10","port":50122}'
)
ISYMPHONY_LOGOUT = ISYMPHONY_LOGIN.replace('userLogin"', 'userLogout"').replace("1710000000123", "1710000900123")
ISYMPHONY_LINK_END = (
    f'{{"type":"linkEnd","time":1710000100500,"coreServerId":"{ISYMPHONY_CORE}",'
    '"callSegmentId1":"cccccccc-0001-4000-8000-000000000001","callerIdName1":"Desk A","callerIdNumber1":"7001",'
    '"did1":null,"extensionId1":"dddddddd-0001-4000-8000-000000000001","extensionNumber1":"7001",'
    '"userId1":"aaaaaaaa-0001-4000-8000-000000000001","username1":"7001",'
    '"callSegmentId2":"cccccccc-0002-4000-8000-000000000002","callerIdName2":"Desk B","callerIdNumber2":"+15550100",'
    '"did2":"5550199","extensionId2":null,"extensionNumber2":"7002","userId2":null,"username2":"b/+#"}'
)
ISYMPHONY_HANGUP = (
    f'{{"type":"hangup","time":1710000101800,"coreServerId":"{ISYMPHONY_CORE}",'
    '"callSegmentId":"cccccccc-0001-4000-8000-000000000001","callerIdName":"Desk A","callerIdNumber":"7001",'
    '"did":null,"extensionId":"dddddddd-0001-4000-8000-000000000001","extensionNumber":"7001",'
    '"userId":"aaaaaaaa-0001-4000-8000-000000000001","username":"7001"}'
)
ISYMPHONY_LEAVE = (
    '{"callSegmentId":"cccccccc-0003-4000-8000-000000000003","callerIdName":"Desk B","callerIdNumber":"7002",'
    f'"conferenceRoomId":"eeeeeeee-0001-4000-8000-000000000001","conferenceRoomName":"Main","coreServerId":'
    f'"{ISYMPHONY_CORE}","did":"s","extensionId":null,"extensionNumber":"7002","time":1710000200000,'
    '"type":"confRoomCallLeave","userId":null,"username":null}'
)
ISYMPHONY_DIAL = ISYMPHONY_LINK_END.replace('"linkEnd"', '"dial"')
ISYMPHONY_OTHER = '{"type":"queue/Join","time":"1710000101800","queueName":"Sales","username":"7001"}'
ISYMPHONY_UNKNOWN = '{"time":1710000101800,"username":"7001"}'
ISYMPHONY_RESTARTED = ISYMPHONY_LOGIN.replace("1111111", "9999999")
_ISYMPHONY_DND = Action(
    path="coreServers/getByName/{server}/extensions/getByName/{extension}/dnd",
    body={"on": "{on}", "note": "set by {who}", "more": [1, None]},
)

ISYMPHONY = Samples(
    options=IsymphonyOptions(
        url="ws://pbx.example:58080",
        username="bridge",
        password=Secret("p"),
        filters={"type": ("*",)},
        actions={"dnd": _ISYMPHONY_DND, "logout-all": Action(method="DELETE", path="logins")},
    ),
    frames=(
        ISYMPHONY_LOGIN,
        ISYMPHONY_LOGOUT,
        ISYMPHONY_LINK_END,
        ISYMPHONY_HANGUP,
        ISYMPHONY_LEAVE,
        ISYMPHONY_DIAL,
        ISYMPHONY_OTHER,
        ISYMPHONY_UNKNOWN,
        ISYMPHONY_RESTARTED,
        '{"correlationId":"{key}","time":1710000000200,"type":"success"}',
        '{"correlationId":"{key}","error":"no such property","time":1710000000300,"type":"error"}',
        '{"correlationId":null,"time":1710000000200,"type":"success"}',
        '{"correlationId":"ws2mqtt-1","time":1710000000200,"type":"success"}',
        '{"correlationId":"ws2mqtt-2","error":"no","time":1710000000200,"type":"error"}',
    ),
    commands=(
        SampleCommand("filter", "", {"filters": {"type": ["hangup", "login"], "username": "7001"}}),
        SampleCommand("filter", "", {"filters": [{"property": "type", "value": "*"}]}),
        SampleCommand("filter", "", {"filters": {}}),
        SampleCommand("filter", "", {}),
        SampleCommand("filter", "", {"filters": {"type": []}}),
        SampleCommand("live", "", {"path": "coreServers/getByName/default/users"}),
        SampleCommand("live", "", {"path": "../up"}),
        SampleCommand("dnd", "", {"server": "default", "extension": "7001", "on": True, "who": 7}),
        SampleCommand("dnd", "", {"server": "default", "extension": "", "on": 1.5, "who": ""}),
        SampleCommand("logout-all", "", {}),
    ),
    answers=(
        Answer(204),
        Answer(200, b'[{"id":"11111111-2222-4333-8444-555555555555"}]'),
        Answer(200, b'[{"id":"aaaaaaaa-0001-4000-8000-000000000001","userName":"7001"},{"id":"b","userName":"b/+#"}]'),
        Answer(200, b'[{"id":"bbbbbbbb-0001-4000-8000-000000000001"},{}]'),
        Answer(200, b"[]"),
        Answer(401, b"<html>no</html>"),
        Answer(412, b"Unrecognized field"),
        Answer(302),
    ),
    outlive=frozenset({"live", "dnd", "logout-all"}),
    other_types=frozenset({"queue%2FJoin", "success", "error"}),
)
