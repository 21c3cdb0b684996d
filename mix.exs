defmodule Emily.MixProject do
  use Mix.Project

  # Cargo.toml carries the same version; `cargo xtask tidy` holds the two equal.
  @version "0.8.0-dev"
  @home "https://github.com/ausimian/emily"

  def project do
    deps = deps(System.get_env("EMILY_DEPS_PATH"), System.get_env("EMILY_BARE"))

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

  # Nx is the oracle of the test data and is never needed to run the bare build.
  defp deps(_path, bare) when bare in ["1", "true"], do: []
  defp deps(nil, _bare), do: []

  defp deps(path, _bare) do
    # Where the tests are not, as in the package, nothing needs Nx either.
    scm = Path.join(__DIR__, "test/folder_scm.exs")
    if File.regular?(scm), do: Code.require_file(scm)
    for app <- [:complex, :telemetry, :nx], File.regular?(scm), do: dep(app, path)
  end

  defp dep(app, path),
    do: {app, path: Path.join(path, "#{app}"), override: true, only: [:dev, :test]}

  defp package do
    [
      licenses: ["MIT"],
      links: %{"GitHub" => @home},
      files: ~w(lib priv/.gitkeep release/targets.json release/emily.pub mix.exs .formatter.exs
                README.md ARCHITECTURE.md CHANGELOG.md LICENSE)
    ]
  end
end
