-- Opens a task or joins it. KEYS: the generation, the used mark, the task, then gates and bindings.
local reads, binding_at, subjects, used_until = unp('>BBBI8', ARGV[2])
local v = call('MGET', unpack(KEYS, 1, reads))
local no = begin(v[1])
if no then return no end
if spent(v[2]) then return {10} end
local p
no, p = present(ARGV[4], v, binding_at, false)
if no then return no end
local _, late, blocked = observe(ARGV[3], subjects, p, v)
if late < 255 then return {13, late} end
if blocked < 255 then return {14, blocked} end
local task, ends, keep, joined
no, task, ends, keep, joined = join(v[3], ARGV[5], ARGV[6])
if no then return no end
if elsewhere(p) then return {3} end
put(KEYS[2], pack('>I8', used_until), used_until)
if keep then put(KEYS[3], task, keep) end
bind(p, v, '')
return {0, task, joined, #p.names > 0 and 1 or 0}
