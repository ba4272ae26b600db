// The same as naive.py in JavaScript, but nothing is awaited: ws and MQTT.js; the socket rests while 2,000 are unacknowledged.
//
//     node node.mjs FOLDER URL PORT      FOLDER: where npm put ws and mqtt
import { createRequire } from "node:module";

const [folder, url, port] = process.argv.slice(2);
const require = createRequire(`${folder}/`);
const WebSocket = require("ws");
const broker = require("mqtt").connect(`mqtt://127.0.0.1:${port}`, { protocolVersion: 4 });
const WINDOW = 2000;
let flying = 0;

broker.once("connect", () => {
  const platform = new WebSocket(url, { perMessageDeflate: false });
  platform.on("message", (text) => {
    const told = JSON.parse(text);
    const device = `application/${told.AppEui}/device/${told.DevEui}`;
    const subject = told.DevEui ? device : `gateway/${told.GatewayEUIs[0]}`;
    const kind = told.CommType.replace("comm_", "");
    const payload = JSON.stringify({ type: kind, subject, time: told.DT, data: told });
    flying += 1;
    if (flying === WINDOW) platform.pause();
    broker.publish(`bench/lora/${subject}/event/${kind}`, payload, { qos: 1 }, () => {
      flying -= 1;
      if (flying === WINDOW / 2) platform.resume();
    });
  });
});
