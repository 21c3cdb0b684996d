defmodule Emily.NativeTest do
  use ExUnit.Case, async: true

  alias Emily.Native

  @moduletag :native

  defp iota(stream, size), do: Native.op(stream, {:iota, %{axis: nil}}, {{:s, 64}, [size]}, [])

  defp sum_over(axes), do: {:sum, %{axes: axes, keep_axes: false}}

  defp integers(tensor), do: for(<<n::64-signed-native <- Emily.to_binary(tensor)>>, do: n)

  test "info/0 says what was built and found" do
    assert {:ok, info} = Native.info()
    assert info.version == to_string(Application.spec(:emily, :vsn))
    assert info.mlx =~ ~r/^\d+\.\d+\.\d+$/
    assert :cpu in info.devices
  end

  test "a device that does not exist is refused" do
    error = assert_raise ArgumentError, fn -> Native.stream_new(:tpu) end
    assert Exception.message(error) == "expected :device to be :cpu or :gpu, got: :tpu"

    {:ok, %{devices: devices}} = Native.info()

    unless :gpu in devices do
      error = assert_raise ArgumentError, fn -> Native.stream_new(:gpu) end
      assert Exception.message(error) == "expected :device to be :cpu on this host, got: :gpu"
    end
  end

  test "graph_operations/1 counts what is yet to be computed" do
    stream = Native.stream_new(:cpu)
    numbers = Emily.from_binary(<<1.0::float-32-native, 2.0::float-32-native>>, [1, 2], {:f, 32})
    turned = Native.op(stream, {:transpose, %{axes: [1, 0]}}, nil, [numbers])
    exp = Native.op(stream, :exp, nil, [turned])

    assert Native.graph_operations([exp, turned]) == [{"Exp", 1, false}, {"Transpose", 1, true}]
    Emily.eval(exp)
    assert Native.graph_operations([exp]) == []
  end

  test "arguments of the wrong kind raise and leave the VM alone" do
    stream = Native.stream_new(:cpu)
    tensor = iota(stream, 3)

    for call <- [
          fn -> Native.op(tensor, :add, nil, [tensor, tensor]) end,
          fn -> Native.op(stream, :add, nil, [stream, tensor]) end,
          fn -> Native.op(stream, :add, nil, tensor) end,
          fn -> Native.op(stream, {:sum}, nil, [tensor]) end,
          fn -> Native.op(stream, {:sum, []}, nil, [tensor]) end,
          fn -> Native.op(stream, {:sum, %{axes: [-1], keep_axes: false}}, nil, [tensor]) end,
          fn -> Native.op(stream, {:sum, %{axes: [0, 0], keep_axes: false}}, nil, [tensor]) end,
          fn -> Native.op(stream, :add, {{:f, 32}}, [tensor, tensor]) end,
          fn -> Native.op(stream, {:iota, %{axis: 7}}, {{:s, 64}, [3]}, []) end,
          fn -> Native.op(stream, :eye, {{:s, 64}, [3]}, []) end,
          fn -> Native.op(stream, :select, nil, [tensor]) end,
          fn -> Native.op(stream, {:sort, %{axis: 9, direction: :asc}}, nil, [tensor]) end,
          fn -> Native.op(stream, {:sort, %{axis: 0, direction: :up}}, nil, [tensor]) end,
          fn -> Native.from_binary(stream, self(), [1], {:u, 8}) end,
          fn -> Native.from_binary(make_ref(), <<1>>, [1], {:u, 8}) end,
          fn -> Native.tensor_type(make_ref()) end,
          fn -> Native.tensor_type(stream) end,
          fn -> Native.read(:tensor, make_ref()) end,
          fn -> Native.eval(tensor, :not_a_reference) end,
          fn -> Native.graph_operations(tensor) end,
          fn -> Native.graph_operations([stream]) end
        ] do
      assert_raise ArgumentError, call
    end

    assert integers(tensor) == [0, 1, 2]
  end

  test "terms of any depth, length and size are refused with a message of some lines" do
    stream = Native.stream_new(:cpu)
    deep = Enum.reduce(1..1_000_000, :x, fn _, inner -> {inner} end)
    pairs = Enum.reduce(1..1_000_000, 1, fn _, inner -> {inner, 1} end)
    wide = Enum.reduce(1..6, :x, fn _, inner -> List.duplicate(inner, 20) end)
    huge = Bitwise.bsl(1, 1_000_000)

    for call <- [
          fn -> Native.op(stream, deep, nil, []) end,
          fn -> Native.op(stream, wide, nil, []) end,
          fn -> Native.op(stream, {:constant, %{value: pairs}}, {{:c, 64}, []}, []) end,
          fn -> Native.op(stream, {:constant, %{value: huge}}, {{:c, 64}, []}, []) end,
          fn -> Native.op(stream, {:sum, %{axes: deep, keep_axes: deep}}, nil, []) end,
          fn -> Native.op(stream, :eye, {{:f, 32}, huge}, []) end,
          fn -> Native.op(stream, :eye, {{:f, 32}, Enum.to_list(1..100_000)}, []) end,
          fn -> Native.op(stream, :eye, deep, deep) end,
          fn ->
            Native.op(stream, sum_over(Enum.to_list(0..1_000_000)), nil, [iota(stream, 2)])
          end,
          fn -> Native.stream_new(String.duplicate("cpu", 100_000)) end
        ] do
      error = assert_raise ArgumentError, call
      assert byte_size(Exception.message(error)) < 2_000
    end
  end

  test "improper lists are refused wherever a list may be" do
    stream = Native.stream_new(:cpu)
    tensor = iota(stream, 3)
    window = %{window: [1], padding: [{0, 0} | 1], strides: [1], window_dilations: [1]}

    for {call, text} <- [
          {fn -> Native.op(stream, :exp, nil, [tensor | tensor]) end,
           "[a reference | a reference]"},
          {fn -> Native.op(stream, [1 | 2], nil, [tensor]) end, "[1 | 2]"},
          {fn -> Native.op(stream, sum_over([0 | 1]), nil, [tensor]) end, ":axes => [0 | 1]"},
          {fn -> Native.op(stream, {:window_sum, window}, nil, [tensor]) end, "[{0, 0} | 1]"},
          {fn -> Native.op(stream, :exp, [{{:f, 32}, [3]} | nil], [tensor]) end, "[3]} | nil]"},
          {fn -> Native.op(stream, :exp, {{:f, 32}, [3 | 4]}, [tensor]) end, "[3 | 4]"},
          {fn -> Native.from_binary(stream, <<1>>, [1 | 1], {:u, 8}) end, "[1 | 1]"}
        ] do
      error = assert_raise ArgumentError, call
      assert Exception.message(error) =~ text
    end
  end

  test "a reducer that takes other types than it is given is refused" do
    stream = Native.stream_new(:cpu)
    inputs = [iota(stream, 3), Emily.op(:sum, [iota(stream, 2)])]
    scalar = {{:s, 4}, []}
    step = %{op: :max, outs: [scalar], inputs: [0, 1]}
    program = %{inputs: [scalar, scalar], instructions: [step], outputs: [2]}
    reduce = {:reduce, %{axes: nil, keep_axes: false, fun: program}}

    error =
      assert_raise ArgumentError, fn -> Native.op(stream, reduce, {{:s, 64}, []}, inputs) end

    assert Exception.message(error) ==
             "expected :fun to take s64, s64, got: one that takes s4, s4"
  end

  # It bounds the time.
  @tag :without_detector
  test "small terms that are large when read are refused soon" do
    stream = Native.stream_new(:cpu)
    scalar = {{:s, 64}, []}
    doubled = Enum.reduce(1..64, [], fn _, inner -> [inner, inner] end)

    program =
      Enum.reduce(1..14, nil, fn _, inner ->
        attributes = %{axes: nil, keep_axes: false, fun: inner}
        operation = if inner, do: {:reduce, attributes}, else: :add
        step = %{op: operation, outs: [scalar], inputs: [0, 1]}
        %{inputs: [scalar, scalar], instructions: List.duplicate(step, 20), outputs: [2]}
      end)

    reduce = {:reduce, %{axes: nil, keep_axes: false, fun: program}}
    inputs = [iota(stream, 3), iota(stream, 1)]

    for operation <- [sum_over(doubled), reduce] do
      call = fn -> Native.op(stream, operation, nil, inputs) end
      {microseconds, _} = :timer.tc(fn -> assert_raise ArgumentError, call end)
      assert microseconds < 5_000_000
    end
  end

  test "integer division by zero and of the least number by -1 do not trap" do
    stream = Native.stream_new(:cpu)
    least = -9_223_372_036_854_775_808
    a = Native.from_binary(stream, <<7::64-native, least::64-native>>, [2], {:s, 64})
    b = Native.from_binary(stream, <<0::64-native, -1::64-native>>, [2], {:s, 64})
    assert integers(Native.op(stream, :quotient, nil, [a, b])) == [-1, least]
    assert [_, 0] = integers(Native.op(stream, :remainder, nil, [a, b]))
  end

  test "a tensor outlives the stream it was built on" do
    tensor =
      Task.await(
        Task.async(fn ->
          stream = Native.stream_new(:cpu)
          Native.op(stream, :add, nil, [iota(stream, 4), iota(stream, 4)])
        end)
      )

    :erlang.garbage_collect()
    # Takes the place of the stream that has ended.
    stream = Native.stream_new(:cpu)
    assert integers(tensor) == [0, 2, 4, 6]
    assert integers(Native.op(stream, :add, nil, [tensor, iota(stream, 4)])) == [0, 3, 6, 9]
  end

  test "streams share tensors" do
    [one, two] = [Native.stream_new(:cpu), Native.stream_new(:cpu)]
    a = iota(one, 1000)
    b = Native.op(two, :multiply, nil, [a, a])
    c = Native.op(one, :subtract, nil, [b, a])
    assert Enum.sum(integers(c)) == Enum.sum(for n <- 0..999, do: n * n - n)
  end

  test "a caller that dies leaves nothing behind, and the stream goes on" do
    stream = Native.stream_new(:cpu)

    for _ <- 1..200 do
      {pid, monitor} =
        spawn_monitor(fn ->
          tensor = iota(stream, 100_000)
          :pending = Native.eval(Native.op(stream, :add, nil, [tensor, tensor]), make_ref())
        end)

      assert_receive {:DOWN, ^monitor, :process, ^pid, :normal}
    end

    assert integers(iota(stream, 2)) == [0, 1]
    refute_received _
  end

  test "processes that share tensors all see the same numbers" do
    shared = iota(Native.stream_new(:cpu), 10_000)
    streams = for _ <- 1..4, do: Native.stream_new(:cpu)

    results =
      1..64
      |> Task.async_stream(
        fn n ->
          stream = Enum.at(streams, rem(n, 4))
          doubled = Native.op(stream, :add, nil, [shared, shared])
          squared = Native.op(stream, :multiply, nil, [doubled, shared])

          Emily.to_binary(
            Native.op(stream, {:sum, %{axes: nil, keep_axes: false}}, nil, [squared])
          )
        end,
        max_concurrency: 64
      )
      |> Enum.map(fn {:ok, sum} -> sum end)

    assert [<<sum::64-native>>] = Enum.uniq(results)
    assert sum == 2 * Enum.sum(for n <- 0..9_999, do: n * n)
  end

  test "schedulers stay free while a stream computes" do
    # Every scheduler is asked to evaluate; were they to wait, nobody would be left to count.
    schedulers = System.schedulers_online()
    stream = Native.stream_new(:cpu)
    size = 600
    matrix = Native.op(stream, {:iota, %{axis: 0}}, {{:f, 32}, [size, size]}, [])
    dot = {:dot, %{contract_a: [1], batch_a: [], contract_b: [0], batch_b: []}}

    work =
      for _ <- 1..(4 * schedulers) do
        Task.async(fn ->
          product =
            Enum.reduce(1..8, matrix, fn _, acc -> Native.op(stream, dot, nil, [acc, matrix]) end)

          Emily.eval(product)
        end)
      end

    counter = :counters.new(1, [])
    counting = spawn_link(fn -> count(counter) end)
    Task.await_many(work, :infinity)
    Process.unlink(counting)
    Process.exit(counting, :kill)
    assert :counters.get(counter, 1) > 20_000
  end

  defp count(counter) do
    :counters.add(counter, 1, 1)
    :erlang.yield()
    count(counter)
  end
end
