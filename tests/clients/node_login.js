// Logs in once for each line of JSON on standard input, with node-postgres; prints "ok" or why not, a line each.
'use strict'
const fs = require('node:fs')
const { Client } = require('pg')

async function logIn (how) {
  const { mode, ca, cert, key, ...where } = how
  const ssl = mode === 'disable' ? false : { rejectUnauthorized: mode === 'verify-full', ca: ca && fs.readFileSync(ca) }
  if (ssl && cert) Object.assign(ssl, { cert: fs.readFileSync(cert), key: fs.readFileSync(key) })
  const client = new Client({ ...where, ssl })
  try {
    await client.connect()
    const { rows } = await client.query('select 1 as n')
    return rows[0].n === 1 ? 'ok' : 'another answer'
  } catch (error) {
    return error.message.replaceAll('\n', ' ')
  } finally {
    await client.end().catch(() => {})
  }
}

async function main () {
  for (const line of fs.readFileSync(0, 'utf8').split('\n').filter(Boolean)) {
    console.log(await logIn(JSON.parse(line)))
  }
}

main().catch(error => { console.error(error); process.exitCode = 1 })
