defmodule Emily.RandomProgramsTest do
  @moduledoc """
  Thousands of programs that no compiler would make: sound ones with a few of their parts exchanged for
  something else, run with inputs and results of calls that fit by chance. Each gives tensors or raises;
  were one to end the VM, no test would be left to pass.
  """

  use ExUnit.Case, async: true

  import Bitwise

  alias Emily.Native

  @moduletag :native
  @moduletag timeout: 600_000

  @programs 2_000

  @types [{{:f, 32}, []}, {{:s, 32}, []}, {{:f, 32}, [3]}, {{:u, 8}, []}]

  for seed <- 1..3 do
    test "random programs give tensors or raise, seed #{seed}" do
      :rand.seed(:exsss, unquote(seed))
      stream = Native.stream_new(:cpu)
      outcomes = for _ <- 1..@programs, do: outcome(stream)
      # Were all of one kind, they would say nothing about the others.
      for kind <- [:computed, :refused, :failed] do
        assert Enum.count(outcomes, &(&1 == kind)) > div(@programs, 50), "#{kind}"
      end
    end
  end

  defp outcome(stream) do
    inputs = for _ <- 1..pick([1, 2, 3]), do: pick(@types)
    program = program(inputs, for(_ <- 1..2, do: pick(@types)), 2)
    changes = pick([0, 0, 1, 1, 1, 2, 3])
    program = Enum.reduce(1..changes//1, program, fn _, program -> change(program) end)

    with {:ok, made} <- attempt(fn -> Native.program_new(program, passes()) end) do
      tensors = for type <- inputs, do: tensor(stream, pick([type, type, type, pick(@types)]))
      seed = :rand.uniform(1 <<< 30)
      within_reason(fn -> run(made, stream, tensors, seed) end)
    else
      :refused -> :refused
    end
  end

  defp passes, do: for(pass <- Native.program_passes(), pick([true, false]), do: pass)

  # A loop may have lost its end: whoever waits for it is killed, and that is the end of it.
  defp within_reason(run) do
    task = Task.async(run)

    case Task.yield(task, 2_000) || Task.shutdown(task, :brutal_kill) do
      {:ok, outcome} -> outcome
      nil -> :endless
    end
  end

  defp run(made, stream, tensors, seed) do
    :rand.seed(:exsss, seed)
    reference = make_ref()
    donated = pick([[], [], tensors, tensors ++ tensors, [tensor(stream, pick(@types))], [:none]])

    answer =
      attempt(fn ->
        made
        |> Native.program_run(stream, tensors, donated, reference)
        |> follow(reference, stream, 40)
      end)

    if answer == :refused, do: :failed, else: :computed
  end

  defp follow({:done, tensors}, _reference, _stream, _left), do: Enum.each(tensors, &Emily.eval/1)
  defp follow(_answer, _reference, _stream, 0), do: :given_up

  defp follow(:pending, reference, stream, left),
    do: reference |> Emily.await() |> follow(reference, stream, left - 1)

  defp follow({:busy, replay}, reference, stream, left),
    do: replay |> Native.program_go_on(reference) |> follow(reference, stream, left - 1)

  defp follow({:call, _number, inputs, replay}, reference, stream, left) do
    results =
      pick([inputs, inputs, [], [tensor(stream, pick(@types))], [:no_tensor], [stream], :none])

    # What went on, or failed, does not go on again.
    again = pick([0, 0, 0, 1])
    answer = Native.program_resume(replay, results, reference)

    for _ <- 1..again//1,
        do:
          assert_raise(ArgumentError, fn -> Native.program_resume(replay, results, reference) end)

    follow(answer, reference, stream, left - 1)
  end

  defp attempt(call) do
    {:ok, call.()}
  rescue
    error in [ArgumentError, Emily.Error] ->
      assert Exception.message(error) != ""
      :refused
  end

  defp tensor(stream, {{_kind, bits} = type, shape}) do
    count = Enum.product(shape)
    Native.from_binary(stream, :binary.copy(<<2::size(bits)-little>>, count), shape, type)
  end

  ## Sound programs

  defp program(inputs, outs, depth) do
    count = pick([0, 1, 3, 5])
    state = Enum.reduce(1..count//1, {inputs, []}, fn _, state -> add(state, depth) end)
    {outputs, {_types, instructions}} = Enum.map_reduce(outs, state, &output/2)
    %{inputs: inputs, instructions: Enum.reverse(instructions), outputs: outputs}
  end

  # The number of a value of that type, which is made if there is none.
  defp output(type, {types, instructions}) do
    case for {^type, at} <- Enum.with_index(types), do: at do
      [] ->
        one = %{op: {:constant, %{value: 1}}, outs: [type], inputs: []}
        {length(types), {types ++ [type], [one | instructions]}}

      numbers ->
        {pick(numbers), {types, instructions}}
    end
  end

  defp add(state, depth) do
    kinds = if depth > 0, do: [:op, :op, :cond, :while, :call], else: [:op]
    {op, outs, taken, {types, instructions}} = step(pick(kinds), state, depth - 1)
    {types ++ outs, [%{op: op, outs: outs, inputs: taken} | instructions]}
  end

  defp step(:op, state, _depth) do
    type = pick(@types)
    {numbers, state} = Enum.map_reduce([type, type], state, &output/2)
    {_, shape} = type

    pick([
      {pick([:add, :multiply, :max, :subtract]), [type], numbers, state},
      {:less, [{{:u, 8}, shape}], numbers, state},
      {{:sum, %{axes: nil, keep_axes: false}}, [{elem(type, 0), []}], [hd(numbers)], state}
    ])
  end

  defp step(:cond, state, depth) do
    {taken, inputs, state} = taken(state)
    outs = for _ <- 1..pick([1, 2]), do: pick(@types)

    clause = fn ->
      %{predicate: program(inputs, [{{:u, 8}, []}], depth), body: program(inputs, outs, depth)}
    end

    clauses = for _ <- 1..pick([0, 1, 2])//1, do: clause.()
    {{:cond, %{clauses: clauses, last: program(inputs, outs, depth)}}, outs, taken, state}
  end

  # Counts to a few, with a counter that is the first thing carried.
  defp step(:while, state, depth) do
    counter = {{:s, 32}, []}
    {first, state} = output(counter, state)
    {taken, inputs, state} = taken(state)
    inputs = [counter | inputs]
    carried = Enum.take(inputs, pick([1, length(inputs)]))
    outs = tl(carried)
    limit = %{op: {:constant, %{value: pick([0, 3, 5])}}, outs: [counter], inputs: []}
    count = length(inputs)
    less = %{op: :less, outs: [{{:u, 8}, []}], inputs: [0, count]}
    condition = %{inputs: inputs, instructions: [limit, less], outputs: [count + 1]}
    body = program(inputs, outs, depth)
    given = count + Enum.sum(for step <- body.instructions, do: length(step.outs))
    one = %{op: {:constant, %{value: 1}}, outs: [counter], inputs: []}
    next = %{op: :add, outs: [counter], inputs: [0, given]}

    body = %{
      body
      | instructions: body.instructions ++ [one, next],
        outputs: [given + 1 | body.outputs]
    }

    {{:while, %{condition: condition, body: body}}, carried, [first | taken], state}
  end

  defp step(:call, state, _depth) do
    {taken, inputs, state} = taken(state)
    {{:call, %{number: pick([0, 1, 1 <<< 40])}}, inputs, taken, state}
  end

  defp taken({types, _instructions} = state) do
    numbers = for at <- 0..(length(types) - 1)//1, pick([true, false]), do: at
    {numbers, Enum.map(numbers, &Enum.at(types, &1)), state}
  end

  ## What is no longer sound

  # Something in it becomes something else.
  defp change(term) do
    case {:rand.uniform(8), term} do
      {1, _} ->
        junk(term)

      {_, %{} = map} when map != %{} ->
        inside_map(map, pick(Map.keys(map)))

      # Of an improper list the length cannot be told, and the guard fails.
      {_, [_ | _]} when length(term) < 1000 ->
        List.update_at(term, pick(Enum.to_list(0..(length(term) - 1))), &change/1)

      {_, tuple} when is_tuple(tuple) and tuple != {} ->
        inside_tuple(tuple, :rand.uniform(tuple_size(tuple)) - 1)

      _ ->
        junk(term)
    end
  end

  defp inside_map(map, key),
    do: pick([Map.delete(map, key) | List.duplicate(Map.update!(map, key, &change/1), 12)])

  defp inside_tuple(tuple, at), do: put_elem(tuple, at, change(elem(tuple, at)))

  defp junk(number) when is_integer(number),
    do:
      pick([
        number + 1,
        number - 1,
        number * 2,
        -number - 1,
        1 <<< 40,
        1 <<< 70,
        1.5,
        nil,
        [number]
      ])

  defp junk([_ | _] = list) when length(list) > 0,
    do:
      pick([
        [],
        tl(list),
        list ++ list,
        [hd(list) | :tail],
        Enum.take(list, 1),
        {list},
        :nonsense
      ])

  defp junk(term) do
    pick([
      nil,
      0,
      :nonsense,
      [],
      %{},
      {},
      "text",
      self(),
      make_ref(),
      [term],
      {term, term},
      %{term => term},
      Enum.reduce(1..500, term, fn _, term -> [term] end),
      List.duplicate(0, 10_000),
      {{:f, 64}, [1 <<< 62, 4]},
      {{:f, 32}, [-1]},
      fn -> term end
    ])
  end

  defp pick(list), do: Enum.random(list)

  ## Too much of something

  test "programs in programs, and lists, may be as long as they like" do
    scalar = {{:u, 8}, []}
    inner = %{inputs: [scalar], instructions: [], outputs: [0]}

    nest = fn inner ->
      step =
        {:while, %{condition: %{inputs: [scalar], instructions: [], outputs: [0]}, body: inner}}

      %{inputs: [scalar], instructions: [%{op: step, outs: [scalar], inputs: [0]}], outputs: [1]}
    end

    deep = Enum.reduce(1..100_000, inner, fn _, inner -> nest.(inner) end)
    assert_raise ArgumentError, fn -> Native.program_new(deep, []) end

    assert is_reference(
             Native.program_new(Enum.reduce(1..14, inner, fn _, inner -> nest.(inner) end), [])
           )

    # A term of a few words that would take for ever to read.
    wide =
      Enum.reduce(1..60, inner, fn _, term ->
        %{inputs: [term, term], instructions: term, outputs: [term]}
      end)

    assert_raise ArgumentError, ~r/at most a million operations/, fn ->
      Native.program_new(wide, [])
    end

    step = %{op: :negate, outs: [scalar], inputs: [0]}
    many = %{inputs: [scalar], instructions: List.duplicate(step, 200_000), outputs: [200_000]}
    program = Native.program_new(many, [])
    stream = Native.stream_new(:cpu)
    reference = make_ref()

    assert {:busy, replay} =
             Native.program_run(program, stream, [tensor(stream, scalar)], [], reference)

    assert {:done, [result]} = finished({:busy, replay}, reference)
    assert Emily.to_binary(result) == <<254>>
  end

  defp finished({:busy, replay}, reference),
    do: replay |> Native.program_go_on(reference) |> finished(reference)

  defp finished(:pending, reference), do: reference |> Emily.await() |> finished(reference)
  defp finished({:done, tensors}, _reference), do: {:done, tensors}

  test "things in each other's places are refused" do
    stream = Native.stream_new(:cpu)
    scalar = {{:f, 32}, []}
    call = %{op: {:call, %{number: 0}}, outs: [scalar], inputs: [0]}
    program = Native.program_new(%{inputs: [scalar], instructions: [call], outputs: [1]}, [])
    t = tensor(stream, scalar)
    ref = make_ref()
    {:call, 0, [_], replay} = Native.program_run(program, stream, [t], [], ref)

    for call <- [
          fn -> Native.program_run(stream, stream, [t], [], ref) end,
          fn -> Native.program_run(program, program, [t], [], ref) end,
          fn -> Native.program_run(replay, stream, [t], [], ref) end,
          fn -> Native.program_run(program, stream, [program], [], ref) end,
          fn -> Native.program_run(program, stream, [t | t], [], ref) end,
          fn -> Native.program_run(program, stream, [t, t], [], ref) end,
          fn -> Native.program_run(program, stream, [t], [program], ref) end,
          fn -> Native.program_run(program, stream, [t], [t | t], ref) end,
          fn -> Native.program_run(program, stream, [t], [], :no_reference) end,
          fn -> Native.program_resume(program, [t], ref) end,
          fn -> Native.program_go_on(program, ref) end,
          fn -> Native.program_resume(replay, [t], 1) end
        ],
        do: assert_raise(ArgumentError, call)

    assert {:done, [_]} = Native.program_resume(replay, [t], ref)
    assert_raise ArgumentError, fn -> Native.program_resume(replay, [t], ref) end
    assert_raise ArgumentError, fn -> Native.program_go_on(replay, ref) end

    {:call, 0, [_], replay} = Native.program_run(program, stream, [t], [], ref)
    # It waits for results, and cannot go on without.
    assert {:call, 0, [_], _replay} = Native.program_go_on(replay, ref)
  end

  describe "a loop that never ends" do
    @scalar {{:s, 32}, []}
    @constant %{op: {:constant, %{value: 1}}, outs: [@scalar], inputs: []}

    # Its condition is known, and it does nothing.
    @idle {[], [0], [], [0]}
    # Its counter is known.
    @counted {[
                %{op: {:constant, %{value: 1_000_000_000}}, outs: [@scalar], inputs: []},
                %{op: :less, outs: [{{:u, 8}, []}], inputs: [0, 1]}
              ], [2], [@constant, %{op: :add, outs: [@scalar], inputs: [0, 1]}], [2]}
    # Its condition has to be computed.
    @computed {[%{op: :abs, outs: [@scalar], inputs: [0]}], [1],
               [@constant, %{op: :bitwise_or, outs: [@scalar], inputs: [0, 1]}], [2]}

    for {name, loop} <- [idle: @idle, counted: @counted, computed: @computed] do
      test "ends with its caller: #{name}" do
        {condition, going, body, next} = unquote(Macro.escape(loop))
        condition = %{inputs: [@scalar], instructions: condition, outputs: going}
        body = %{inputs: [@scalar], instructions: body, outputs: next}
        loop = %{op: {:while, %{condition: condition, body: body}}, outs: [@scalar], inputs: [0]}
        program = Native.program_new(%{inputs: [@scalar], instructions: [loop], outputs: [1]}, [])
        stream = Native.stream_new(:cpu)
        start = tensor(stream, @scalar)

        # More than there are schedulers for what takes long.
        callers =
          for _ <- 1..(2 * :erlang.system_info(:dirty_cpu_schedulers)) do
            parent = self()

            spawn_monitor(fn ->
              reference = make_ref()
              answer = Native.program_run(program, stream, [start], [], reference)
              send(parent, :under_way)
              finished(answer, reference)
            end)
          end

        for _ <- callers, do: assert_receive(:under_way, 60_000)
        for {pid, _monitor} <- callers, do: Process.exit(pid, :kill)
        for {_, monitor} <- callers, do: assert_receive({:DOWN, ^monitor, _, _, :killed}, 60_000)

        # The stream's thread, and the schedulers for what takes long, have time for others.
        assert is_reference(
                 Native.program_new(%{inputs: [@scalar], instructions: [], outputs: [0]}, [])
               )

        assert Emily.to_binary(Native.op(stream, :negate, nil, [start])) == <<-2::32-little>>
      end
    end
  end
end
