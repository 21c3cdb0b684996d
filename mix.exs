# What the tests depend on. The package ships without them, and depends on nothing.
dependencies = Path.join(__DIR__, "test/folder_scm.exs")
if File.regular?(dependencies), do: Code.require_file(dependencies)

defmodule Emily.MixProject do
  use Mix.Project

  # Cargo.toml carries the same version; `cargo xtask tidy` holds the two equal.
  @version "0.8.0-dev"
  @home "https://github.com/ausimian/emily"

  def project do
    deps = deps()

    [
      app: :emily,
      version: @version,
      elixir: "~> 1.18",
      compilers: Mix.compilers() ++ [:emily],
      elixirc_paths: elixirc_paths(Mix.env(), deps),
      start_permanent: Mix.env() == :prod,
      deps: deps,
      description: "Nx on Apple's MLX: Metal, CPU and CUDA, with a native core in Rust",
      source_url: @home,
      package: package()
    ]
  end

  def application do
    [
      mod: {Emily.Application, []},
      extra_applications: [:logger, :crypto, :inets, :ssl, :public_key]
    ]
  end

  defp elixirc_paths(:test, []), do: ["lib", "test/support"]
  defp elixirc_paths(:test, _deps), do: ["lib", "test/support", "test/recorder"]
  defp elixirc_paths(_env, _deps), do: ["lib"]

  defp deps, do: if(Code.ensure_loaded?(Emily.FolderSCM), do: Emily.FolderSCM.deps(), else: [])

  defp package do
    [
      licenses: ["MIT"],
      links: %{"GitHub" => @home},
      files: ~w(lib priv/.gitkeep release/targets.json release/emily.pub mix.exs .formatter.exs
                README.md ARCHITECTURE.md CHANGELOG.md LICENSE)
    ]
  end
end
