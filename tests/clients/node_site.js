// node-postgres as an application uses it: `node node_site.js HOST PORT` exits with 0 when all went well.
'use strict'
const assert = require('node:assert')
const { Client, Pool } = require('pg')

const [host, port] = process.argv.slice(2)
const where = { host, port: Number(port), user: 'app', password: 'app-secret', database: 'app' }

async function namedQueries (pool, client) {
  for (let number = 0; number < 30; number++) {
    const same = await pool.query({ name: 'plus-one', text: 'select $1::int + 1 as n', values: [number] })
    assert.strictEqual(same.rows[0].n, number + 1)
    const own = await pool.query({ name: `own-${client}-${number % 5}`, text: `select '${client}.${number % 5}' as t` })
    assert.strictEqual(own.rows[0].t, `${client}.${number % 5}`)
    await assert.rejects(pool.query({ name: 'fails', text: 'select 1 / $1::int', values: [0] }), { code: '22012' })
  }
}

async function transactions (pool, client) {
  for (let number = 0; number < 10; number++) {
    const connection = await pool.connect()
    try {
      await connection.query('begin')
      await connection.query({ name: 'insert', text: 'insert into node_rows values ($1, $2)', values: [client, `${number}`] })
      await connection.query('savepoint s')
      await assert.rejects(connection.query('insert into node_rows values ($1)', ['not a number']), { code: '22P02' })
      await connection.query('rollback to s')
      await connection.query(number % 2 ? 'rollback' : 'commit')
    } finally {
      connection.release()
    }
  }
  const { rows } = await pool.query('select count(*)::int as n from node_rows where id = $1', [client])
  assert.strictEqual(rows[0].n, 5)
}

async function settings (client) {
  const connection = new Client({ ...where, statement_timeout: 50001 + client, application_name: `node ${client}` })
  await connection.connect()
  await connection.query(`set search_path = "node ${client}", public`)
  for (let number = 0; number < 10; number++) {
    const shown = await connection.query("select current_setting('statement_timeout') as t, current_setting('search_path') as p, current_setting('application_name') as a")
    assert.deepStrictEqual({ ...shown.rows[0] }, { t: `${50001 + client}ms`, p: `"node ${client}", public`, a: `node ${client}` })
  }
  await connection.end()
}

async function notifications (pool) {
  const listener = new Client(where)
  await listener.connect()
  const heard = []
  const all = new Promise((resolve) => listener.on('notification', (said) => {
    heard.push(said.payload)
    if (heard.length === 20) resolve()
  }))
  await listener.query('listen node_channel')
  await Promise.all(Array.from({ length: 20 }, (_, n) => pool.query("select pg_notify('node_channel', $1)", [`${n}`])))
  await all
  assert.deepStrictEqual(heard.map(Number).sort((a, b) => a - b), Array.from({ length: 20 }, (_, n) => n))
  await listener.query('unlisten *')
  await listener.end()
}

async function main () {
  const pool = new Pool({ ...where, max: 6 })
  const clients = [0, 1, 2, 3, 4, 5]
  await pool.query('create table node_rows(id int, t text)')
  try {
    await Promise.all(clients.map((client) => namedQueries(pool, client)))
    await Promise.all(clients.map((client) => transactions(pool, client)))
    await Promise.all(clients.map((client) => settings(client)))
    await notifications(pool)
  } finally {
    await pool.query('drop table node_rows')
    await pool.end()
  }
}

main().catch((error) => {
  console.error(error)
  process.exit(1)
})
