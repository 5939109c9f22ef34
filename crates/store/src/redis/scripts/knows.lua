-- Whether anything knows a subject. KEYS: the generation, its gate, its task, its index where it has one.
local v = call('MGET', KEYS[1], KEYS[2], KEYS[3])
local no = begin(v[1])
if no then return no end
local known = (v[2] and (now < u64(v[2], 11) or blocks(v[2])))
  or (v[3] and now < u64(v[3], 19))
  or (KEYS[4] and live(KEYS[4]) > 0)
return {0, known and 1 or 0}
