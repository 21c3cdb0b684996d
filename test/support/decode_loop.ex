if Code.ensure_loaded?(Nx) do
  defmodule Emily.Test.DecodeLoop do
    @moduledoc """
    `Emily.Generation` beside a loop that calls its compiled step and waits for it, in turns, since whatever else the
    machine does meets both.
    """

    alias Emily.Generation
    alias Emily.Generation.{Sampler, Step}
    alias Emily.Test.SmallTransformer, as: Model

    # A step of some milliseconds on any machine of today.
    @size [layers: 8, hidden: 512, heads: 8, shared: 4, vocabulary: 8192]

    @doc "Microseconds a token of each round, by way: `driven` and `raw`."
    @spec times(pos_integer(), pos_integer()) :: [%{driven: float(), raw: float()}]
    def times(rounds, tokens) do
      generation = Model.generation(Model.size(@size), cache: [step: 256])
      prompt = Enum.to_list(1..20)
      session = Generation.prefill(generation, prompt)

      options = [session: session, max_tokens: tokens]
      driven = fn -> Generation.generate(generation, prompt, options).tokens |> List.last() end
      raw = fn -> raw(generation, session, List.last(prompt), tokens) end
      true = driven.() == raw.()

      for _ <- 1..rounds do
        Enum.shuffle(driven: driven, raw: raw)
        |> Map.new(fn {name, fun} -> {name, elem(:timer.tc(fun), 0) / tokens} end)
      end
    end

    @doc """
    How much longer the driver takes: the ratio of the least times, or the middle one of the rounds' ratios if that is
    less. A busy machine makes either of them larger or smaller; what the driver costs is in both.
    """
    @spec ratio([map()]) :: float()
    def ratio(times) do
      least =
        for name <- [:driven, :raw],
            into: %{},
            do: {name, times |> Enum.map(& &1[name]) |> Enum.min()}

      ratios = Enum.sort(for %{driven: driven, raw: raw} <- times, do: driven / raw)
      min(least.driven / least.raw, Enum.at(ratios, div(length(ratios), 2)))
    end

    defp raw(generation, session, last, tokens) do
      sampler = Sampler.new(temperature: 0)
      %{fun: fun, options: options} = Step.decode(generation, sampler, false)
      step = Nx.Defn.jit(fun, options)
      state = Sampler.init(sampler, [[last]], seed: 0)
      first = {Nx.tensor([last], type: :s32), session.cache, state}

      {token, _cache, _state} =
        Enum.reduce(1..tokens, first, fn at, {token, cache, state} ->
          # The session stays.
          cache = if at > 1, do: Nx.donatable(cache), else: cache
          {token, {}, cache, state} = step.(generation.params, token, cache, state)
          {Emily.Backend.eval(token), cache, state}
        end)

      Nx.to_number(token[0])
    end
  end
end
