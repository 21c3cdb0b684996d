defmodule Emily.Soak.KillsTest do
  use ExUnit.Case, async: false

  alias Emily.{Native, Stream}
  alias Emily.Test.Baseline

  @moduletag :native
  @moduletag timeout: :infinity

  defp numbers(count), do: Emily.op(:iota, [], type: {:f, 32}, shape: [count])

  defp sum(tensor), do: Emily.op(:sum, [tensor])

  # Too much for one turn, and for the test to wait for often.
  defp slow(stream, length \\ 50) do
    Enum.reduce(1..length, numbers(200_000), fn _, tensor ->
      Native.op(stream, :sin, nil, [tensor])
    end)
  end

  for {tag, rounds} <- [brief: 100, soak: 10_000] do
    @tag tag
    test "processes killed at random leave nothing behind, #{rounds} times" do
      shared = numbers(1000)
      expected = Emily.to_binary(sum(shared))
      :rand.seed(:exsss, {1, 2, 3})

      Baseline.returns(unquote(rounds), fn _round ->
        heir = self()
        acts = for act <- acts(), into: %{}, do: act
        {victim, monitor} = spawn_monitor(fn -> act(acts, shared, heir) end)
        kill(victim, monitor, :rand.uniform(12))
        inherit()
        assert Emily.to_binary(sum(shared)) == expected
      end)
    end
  end

  # Kills a process after some of its acts, in the middle of the next one.
  defp kill(victim, monitor, acts) do
    for _ <- 1..acts, do: receive(do: ({^victim, :acted} -> :ok))
    Process.exit(victim, :kill)
    receive(do: ({:DOWN, ^monitor, :process, ^victim, :killed} -> :ok))
    flush(victim)
  end

  defp flush(victim) do
    receive do
      {^victim, :acted} -> flush(victim)
    after
      0 -> :ok
    end
  end

  # What the killed process shared is as good as any other tensor.
  defp inherit do
    receive do
      {:heritage, tensor, count} ->
        assert byte_size(Emily.to_binary(tensor)) == 4 * count
        inherit()
    after
      0 -> :ok
    end
  end

  defp act(acts, shared, heir) do
    acts[:rand.uniform(map_size(acts))].(shared, heir)
    send(heir, {self(), :acted})
    act(acts, shared, heir)
  end

  defp acts do
    [
      fn shared, _heir -> Emily.eval(Emily.op(:sort, [shared])) end,
      fn shared, _heir ->
        Emily.async_eval(Emily.op(:exp, [Emily.op(:add, [shared, shared])]))
      end,
      fn shared, _heir -> Native.op(Stream.reference(), :negate, nil, [shared]) end,
      fn shared, _heir -> Emily.to_binary(Emily.op(:reverse, [shared], axes: [0])) end,
      fn shared, heir -> send(heir, {:heritage, Emily.op(:cos, [shared]), 1000}) end,
      fn _shared, heir -> send(heir, {:heritage, adopted(), 300_000}) end,
      fn _shared, _heir -> Emily.eval(Emily.op(:add, [adopted(), adopted()])) end,
      fn _shared, _heir -> Native.deallocate(adopted()) end,
      fn _shared, _heir -> slow(Stream.reference(), 5) |> Emily.eval() end,
      fn shared, _heir ->
        Stream.with_stream(Stream.new(:cpu), fn -> Emily.eval(sum(shared)) end)
      end,
      fn _shared, _heir ->
        zeros = Emily.from_binary(<<0::128>>, [2, 2], {:f, 32})
        solution = Emily.op(:solve, [zeros, Emily.from_binary(<<0::64>>, [2], {:f, 32})])
        assert_raise Emily.Error, fn -> Emily.to_binary(solution) end
      end,
      fn _shared, _heir -> Emily.Memory.stats() end
    ]
    |> Enum.with_index(fn act, index -> {index + 1, act} end)
  end

  # A binary that is large enough for its memory to be used as it is.
  defp adopted do
    binary = :binary.copy(<<1.0::32-float-native>>, 300_000)
    Emily.from_binary(binary, [300_000], {:f, 32})
  end

  test "what a killed process still waited for holds nobody up" do
    stream = Stream.new(:cpu)
    alone = duration(fn -> Emily.eval(slow(stream.ref)) end)

    waiting =
      for _ <- 1..20 do
        tensor = slow(stream.ref)
        {victim, monitor} = spawn_monitor(fn -> Emily.eval(tensor) end)
        waits_for_an_answer(victim)
        {victim, monitor, tensor}
      end

    for {victim, _monitor, _tensor} <- waiting, do: Process.exit(victim, :kill)
    for {_, monitor, _} <- waiting, do: receive(do: ({:DOWN, ^monitor, _, _, :killed} -> :ok))
    quick = Native.op(stream.ref, :negate, nil, [numbers(10)])
    assert duration(fn -> Emily.to_binary(quick) end) < 4 * alone

    # Given up is not spoilt.
    [{_, _, one}, {_, _, other} | _] = waiting
    assert Emily.to_binary(one) == Emily.to_binary(other)
  end

  test "an evaluation that nobody waits for any more is given up" do
    stream = Stream.new(:cpu)
    alone = duration(fn -> Emily.eval(slow(stream.ref, 200)) end)
    tensor = slow(stream.ref, 200)
    {victim, monitor} = spawn_monitor(fn -> Emily.eval(tensor) end)
    waits_for_an_answer(victim)
    Process.exit(victim, :kill)
    receive(do: ({:DOWN, ^monitor, _, _, :killed} -> :ok))
    quick = Native.op(stream.ref, :negate, nil, [numbers(10)])
    assert duration(fn -> Emily.to_binary(quick) end) < alone / 4
    assert Emily.to_binary(tensor) == Emily.to_binary(slow(stream.ref, 200))
  end

  test "what was to be computed for nobody in particular is left out when nobody can read it" do
    stream = Stream.new(:cpu)
    alone = duration(fn -> Emily.eval(slow(stream.ref)) end)
    Task.await(Task.async(fn -> for _ <- 1..20, do: Emily.async_eval(slow(stream.ref)) end))
    quick = Native.op(stream.ref, :negate, nil, [numbers(10)])
    assert duration(fn -> Emily.to_binary(quick) end) < 4 * alone
  end

  test "the owner of the default streams may be killed, too" do
    before = numbers(1000)
    expected = Emily.to_binary(sum(before))
    owner = Process.whereis(Emily.Native.DefaultStream)
    monitor = Process.monitor(owner)
    Process.exit(owner, :kill)
    receive(do: ({:DOWN, ^monitor, _, _, :killed} -> :ok))

    assert Emily.to_binary(sum(before)) == expected
    assert Emily.to_binary(sum(numbers(1000))) == expected
    successor(owner)
    assert Emily.to_binary(sum(numbers(1000))) == expected
  end

  defp successor(owner) do
    if Process.whereis(Emily.Native.DefaultStream) in [nil, owner] do
      :erlang.yield()
      successor(owner)
    end
  end

  test "a call that timed out leaves no message, and the stream goes on" do
    stream = Stream.new(:cpu)
    server = start_supervised!({Agent, fn -> stream end})

    task = Task.async(fn -> Emily.eval(slow(stream.ref)) end)
    assert Task.yield(task, 0) == nil
    assert Task.shutdown(task, :brutal_kill) == nil
    call = fn stream -> Emily.eval(slow(stream.ref)) end
    assert {:timeout, _call} = catch_exit(Agent.get(server, call, 1))

    # After what timed out, in the order of the stream and of the server.
    assert Agent.get(server, fn stream -> Emily.eval(slow(stream.ref, 1)) end) == :ok
    assert Process.info(server, :message_queue_len) == {:message_queue_len, 0}
    refute_received _message
  end

  # Until it waits in `receive`, and the stream has got its request.
  defp waits_for_an_answer(pid) do
    unless Process.info(pid, :status) == {:status, :waiting} do
      :erlang.yield()
      waits_for_an_answer(pid)
    end
  end

  defp duration(fun) do
    {time, _result} = :timer.tc(fun)
    time
  end
end
