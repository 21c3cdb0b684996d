if Code.ensure_loaded?(Nx) do
  defmodule Emily.Test.SmallBumblebee do
    @moduledoc "Bumblebee's models with random weights, where Bumblebee is at hand."

    @compile {:no_warn_undefined, [Axon, Axon.ModelState, Bumblebee]}

    @doc "Why its models cannot be tested here, if they cannot."
    @spec missing() :: String.t() | nil
    def missing do
      # Where its compiled modules are, if it is no dependency of the project's.
      if folder = System.get_env("EMILY_MODELS_PATH"), do: Code.append_path(folder)

      cond do
        not Code.ensure_loaded?(Bumblebee) ->
          "Bumblebee is not here: EMILY_MODELS_PATH names the folder of its compiled modules"

        # Protocols are consolidated with the project's dependencies.
        Nx.Container.impl_for(struct(Axon.ModelState)) in [nil, Nx.Container.Any] ->
          "Axon is not among the dependencies: it has to be in EMILY_DEPS_PATH"

        true ->
          nil
      end
    end

    @doc """
    A small model of a module of Bumblebee's, with its specification and parameters, for `{1, length}` tokens; `options` are
    the specification's.
    """
    @spec model(module(), atom(), pos_integer(), keyword()) :: map()
    def model(module, architecture, length, options) do
      small = [
        vocab_size: 40,
        max_positions: 64,
        num_blocks: 2,
        num_attention_heads: 4
      ]

      spec =
        module |> struct(architecture: architecture) |> Bumblebee.configure(small ++ options)

      model = Bumblebee.build_model(spec)
      {init, _predict} = Axon.build(model, compiler: Nx.Defn.Evaluator, seed: 5)
      template = %{"input_ids" => Nx.template({1, length}, :s64)}
      %{model: model, spec: spec, params: init.(template, Axon.ModelState.empty())}
    end
  end
end
