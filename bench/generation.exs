# Emily.Generation beside a loop that calls its compiled step and waits for it, as one line of JSON.
#
#     MIX_ENV=test mix run bench/generation.exs [ROUNDS]
#
# Times are microseconds a token, of each round.

alias Emily.Test.DecodeLoop

rounds =
  case System.argv() do
    [] -> 20
    [rounds] -> String.to_integer(rounds)
  end

Nx.default_backend(Emily.Backend)
times = DecodeLoop.times(rounds, 32)
IO.puts(JSON.encode!(%{microseconds: times, ratio: DecodeLoop.ratio(times)}))
