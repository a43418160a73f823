// What a kafkajs user does: node suite.js BOOTSTRAP PREFIX. Prints "ok NAME" or "not ok NAME: why" a step.
const { Kafka, CompressionTypes, CompressionCodecs, logLevel, ConfigResourceTypes } = require('kafkajs')
CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy')

const [bootstrap, prefix] = process.argv.slice(2)
const kafka = new Kafka({ clientId: 'suite', brokers: [bootstrap], logLevel: logLevel.NOTHING, retry: { retries: 8 } })
const N = 300
let failed = 0
const topic = name => `${prefix}-${name}`
const values = () => Array.from({ length: N }, (_, i) =>
  i === 7 ? Buffer.alloc(0) : Buffer.concat([Buffer.from(`value-${i}-`), Buffer.alloc((i * 13) % 400, i % 256)]))
const sorted = list => list.map(v => v.toString('hex')).sort().join()

function check(ok, what) {
  if (!ok) throw new Error(`unexpected: ${what}`)
}

async function step(name, body) {
  try {
    await body()
    console.log(`ok ${name}`)
  } catch (e) {
    failed++
    console.log(`not ok ${name}: ${e} ${(e.stack || '').split('\n')[1]}`.replace(/\n/g, ' '))
  }
}

// consume reads `want` messages of a topic in a group; prepare may seek.
async function consume(group, name, want, prepare = async () => {}) {
  const consumer = kafka.consumer({ groupId: group, sessionTimeout: 10000, rebalanceTimeout: 10000 })
  const got = []
  await consumer.connect()
  await consumer.subscribe({ topic: name, fromBeginning: true })
  let finish
  const done = new Promise(resolve => { finish = resolve })
  const timer = setTimeout(() => finish(), 90000)
  await consumer.run({
    eachMessage: async ({ message, partition }) => {
      got.push({ ...message, partition })
      if (got.length >= want) finish()
    },
  })
  await prepare(consumer)
  await done
  clearTimeout(timer)
  if (got.length) {
    const next = {}
    for (const m of got) next[m.partition] = Math.max(next[m.partition] || 0, Number(m.offset) + 1)
    await consumer.commitOffsets(Object.entries(next).map(([p, o]) => ({ topic: name, partition: Number(p), offset: `${o}` })))
  }
  await consumer.disconnect()
  return got
}

async function main() {
  const admin = kafka.admin()
  await admin.connect()
  const producer = kafka.producer({ allowAutoTopicCreation: true })
  await producer.connect()

  await step('create topic', async () => {
    check(await admin.createTopics({ topics: [{ topic: topic('basic'), numPartitions: 3 }] }), 'not created')
    check((await admin.listTopics()).includes(topic('basic')), 'not listed')
    const d = await admin.describeConfigs({ resources: [{ type: ConfigResourceTypes.TOPIC, name: topic('basic') }] })
    check(d.resources[0].configEntries.some(e => e.configName === 'retention.ms'), 'retention.ms')
  })
  for (const [codec, type] of [['none', CompressionTypes.None], ['gzip', CompressionTypes.GZIP], ['snappy', CompressionTypes.Snappy]]) {
    for (const acks of [0, 1, -1]) {
      await step(`produce ${codec} acks=${acks}`, async () => {
        const r = await producer.send({
          topic: topic(codec), acks, compression: type,
          messages: values().map((value, i) => ({ key: `${i}`, value, headers: { acks: `${acks}` } })),
        })
        check(acks === 0 || r[0].errorCode === 0, JSON.stringify(r))
      })
    }
    await step(`consume ${codec} in a group`, async () => {
      const got = await consume(topic(`group-${codec}`), topic(codec), 3 * N)
      for (const acks of ['0', '1', '-1']) {
        const mine = got.filter(m => m.headers.acks.toString() === acks)
        check(sorted(mine.map(m => m.value)) === sorted(values()), `acks ${acks}: ${mine.length}`)
      }
    })
  }
  await step('resume a group', async () => {
    await producer.send({ topic: topic('none'), messages: [{ value: 'after' }] })
    const got = await consume(topic('group-none'), topic('none'), 1)
    check(got.map(m => m.value.toString()).join() === 'after', got.length)
  })
  await step('idempotent producer', async () => {
    const p = kafka.producer({ idempotent: true, maxInFlightRequests: 1 })
    await p.connect()
    for (let i = 0; i < 20; i++) {
      const [r] = await p.send({ topic: topic('idempotent'), acks: -1, messages: [{ value: `${i}`, partition: 0 }] })
      check(r.baseOffset === `${i}`, JSON.stringify(r))
    }
    await p.disconnect()
  })
  await step('seek by offset and timestamp', async () => {
    const base = Date.now() - 100000
    await producer.send({
      topic: topic('times'),
      messages: Array.from({ length: 100 }, (_, i) => ({ value: `${i}`, partition: 0, timestamp: `${base + i * 10}` })),
    })
    const found = await admin.fetchTopicOffsetsByTimestamp(topic('times'), base + 505)
    check(found[0].offset === '51', JSON.stringify(found))
    const got = await consume(topic('group-seek'), topic('times'), 1, async c => c.seek({ topic: topic('times'), partition: 0, offset: '42' }))
    check(got.some(m => m.offset === '42'), JSON.stringify(got.map(m => m.offset).slice(0, 3)))
    const [ends] = await admin.fetchTopicOffsets(topic('times'))
    check(ends.low === '0' && ends.high === '100', JSON.stringify(ends))
  })
  await step('error on an oversized record', async () => {
    try {
      await producer.send({ topic: topic('basic'), messages: [{ value: Buffer.alloc(2 << 20) }] })
    } catch (e) {
      check(/MESSAGE_TOO_LARGE|larger than/.test(`${e.type} ${e.message} ${e.cause}`), e)
      return
    }
    check(false, 'accepted')
  })
  await step('error on an unknown topic', async () => {
    try {
      await admin.deleteTopics({ topics: [topic('never-made')], timeout: 2000 })
    } catch (e) {
      check(/UNKNOWN_TOPIC|does not host/.test(`${e.type} ${e.message} ${e.cause}`), e)
      return
    }
    check(false, 'deleted')
  })
  await step('describe and delete a group', async () => {
    const { groups } = await admin.describeGroups([topic('group-none')])
    check(groups[0].state === 'Empty', JSON.stringify(groups[0]))
    await admin.deleteGroups([topic('group-none')])
    check(!(await admin.listGroups()).groups.some(g => g.groupId === topic('group-none')), 'still listed')
  })
  await producer.disconnect()
  await admin.disconnect()
  process.exit(failed ? 1 : 0)
}

main().catch(e => {
  console.log(`not ok suite: ${e}`)
  process.exit(1)
})
