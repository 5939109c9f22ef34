-- Whether anything knows a subject. KEYS: the generation, its gate, its task, its index.
local v = call('MGET', KEYS[1], KEYS[2], KEYS[3])
local no = begin(v[1])
if no then return no end
local known = v[2] or v[3] or call('EXISTS', KEYS[4]) == 1
return {0, known and 1 or 0}
